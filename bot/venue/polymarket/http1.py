"""HTTP/1.1 as far as an order needs it: one request at a time on a connection that is open already, written in one piece.

A general client takes about a millisecond of processor to get a request out; this takes a tenth of that, and the time from a
price to an order is what this bot lives on. No redirects, no compression, no retries: an error is the caller's to judge.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_MOST_BYTES = 1 << 20
_MOST_HEAD = 64 << 10
_MOST_INTERIM = 16  # 1xx answers before the answer proper; RFC 9110 sets no limit
_MOST_CHUNKS = 65_536  # of a body: also those of one byte each must come to an end

SocketOption = tuple[int, int, int] | tuple[int, int, bytes]


class BrokenError(Exception):
    """The connection ended, or what came over it is no HTTP answer. Whether the request took effect is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and body."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection. Made by `dial`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiting: asyncio.Future[Answer] | None = None
        self._ended = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it now."""
        return self._transport is not None and not self._ended and self._waiting is None

    def socket(self) -> socket.socket:
        """Its socket, to look at."""
        assert self._transport is not None, "dial gives connections that are made"
        raw: socket.socket = self._transport.get_extra_info("socket")
        return raw

    def begin(self, request: bytes) -> None:
        """Send one whole request now; `answer` waits for what comes."""
        assert self.usable, "one request at a time"
        assert self._transport is not None, "usable"
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)

    async def answer(self) -> Answer:
        """Wait for the answer to what `begin` sent. Cancelled, the connection is aborted.

        Raises BrokenError.
        """
        assert self._waiting is not None, "a request was begun"
        try:
            return await self._waiting
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiting = None
            self.idle_since = asyncio.get_running_loop().time()

    def abort(self) -> None:
        """End it at once; what was not delivered is discarded (the socket's linger is 0)."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    # --- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport = transport
        self.idle_since = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.abort()  # nobody asked
            return
        try:
            answer = self._reader.feed(data)
        except ValueError as error:
            self._fail(BrokenError(f"no HTTP answer: {error}"))
            return
        if answer is not None:
            self._give(*answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._waiting is None or self._waiting.done():
            return
        answer = self._reader.end() if exc is None else None
        if answer is None:
            self._waiting.set_exception(
                BrokenError(f"the connection ended before an answer: {exc or 'closed by the other side'}")
            )
        else:
            self._give(*answer)

    def _give(self, answer: Answer, keep: bool) -> None:
        assert self._waiting is not None, "an answer to a request"
        self._reader = AnswerReader()
        self._waiting.set_result(answer)
        if not keep:
            self.abort()

    def _fail(self, error: BrokenError) -> None:
        assert self._waiting is not None, "an answer to a request"
        self._waiting.set_exception(error)
        self.abort()


class AnswerReader:
    """Reads one answer, piece by piece: each byte is looked at a bounded number of times, however small the pieces are. Pure.

    Both methods give the answer, and whether the connection may be used on; None while the answer is not whole.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._body = bytearray()
        self._status = 0
        self._keep = True
        self._interim = 0
        self._length: int | None = None  # of the body; None: until the connection ends
        self._chunks: _Chunks | None = None
        self._in_body = False

    def feed(self, data: bytes) -> tuple[Answer, bool] | None:
        """With what came next.

        Raises ValueError: it is no HTTP/1.1 answer, or too long.
        """
        while not self._in_body:
            from_byte = max(0, len(self._head) - 3)
            self._head += data
            at = self._head.find(b"\r\n\r\n", from_byte)
            if at < 0:
                _check_head(self._head)
                return None
            head, data = bytes(self._head[:at]), bytes(self._head[at + 4 :])
            self._head.clear()
            self._begin(head)
        if self._chunks is not None:
            if not self._chunks.feed(data, self._body):
                return None
            return Answer(self._status, bytes(self._body)), self._keep and not self._chunks.more
        self._body += data
        if self._length is None:
            if len(self._body) > _MOST_BYTES:
                raise ValueError(f"longer than {_MOST_BYTES} bytes")
            return None
        if len(self._body) < self._length:
            return None
        return Answer(self._status, bytes(self._body[: self._length])), self._keep and len(self._body) == self._length

    def end(self) -> tuple[Answer, bool] | None:
        """The other side has closed: a body without a length ends there, and anything else is not whole."""
        if self._in_body and self._chunks is None and self._length is None:
            return Answer(self._status, bytes(self._body)), False
        return None

    def _begin(self, head: bytes) -> None:
        """Take a whole head: an interim answer's is dropped, since the answer proper follows."""
        _check_head(head)
        line, *rows = head.decode("latin-1").split("\r\n")
        status = _number(line[9:12], 10, "a status")
        if status < 100:
            raise ValueError(f"status {status}")
        if 100 <= status < 200:
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise ValueError(f"more than {_MOST_INTERIM} interim answers")
            return
        headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        self._status, self._in_body = status, True
        self._keep = headers.get("connection", "").lower() != "close"
        if status in (204, 304):
            self._length = 0
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = _Chunks()
        elif "content-length" in headers:
            self._length = _number(headers["content-length"], 10, "a length")
            if self._length > _MOST_BYTES:
                raise ValueError(f"a body of {self._length} bytes")


class _Chunks:
    """Takes a body in chunks apart. Trailers are read over."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0  # of this chunk and the line end after it
        self._count = 0
        self._trailers = False
        self.more = False  # something follows the body

    def feed(self, data: bytes, body: bytearray) -> bool:
        """Append what is of the body; whether it is whole. Raises ValueError."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                body += piece[: max(0, self._left - 2)]
                self._left -= len(piece)
                at += len(piece)
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end + 1 if end >= 0 else len(data)]
            if len(self._line) > _MOST_HEAD:
                raise ValueError(f"a line of more than {_MOST_HEAD} bytes")
            if end < 0:
                return False
            at = end + 1
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise ValueError("a line that ends without a carriage return")
            if self._trailers:
                if line == b"\r\n":
                    self.more = at < len(data)
                    return True
                self._count += 1
            else:
                self._begin(line, len(body))
            if self._count > _MOST_CHUNKS:
                raise ValueError(f"more than {_MOST_CHUNKS} chunks")
        return False

    def _begin(self, line: bytes, so_far: int) -> None:
        size = _number(line.split(b";")[0].strip().decode("latin-1"), 16, "the size of a chunk")
        if so_far + size > _MOST_BYTES:
            raise ValueError(f"a body of {so_far + size} bytes or more")
        self._count += 1
        if size == 0:
            self._trailers = True
        else:
            self._left = size + 2


def _check_head(head: bytes | bytearray) -> None:
    """Raises ValueError: this is no beginning of an HTTP/1.1 answer, or too long."""
    if len(head) > _MOST_HEAD:
        raise ValueError(f"a head of more than {_MOST_HEAD} bytes")
    if not head.startswith(b"HTTP/1.1 "[: len(head)]):
        raise ValueError(f"expected HTTP/1.1, found {bytes(head[:20])!r}")


def _number(text: str, base: int, what: str) -> int:
    """A number of digits alone: int() would take signs, blanks, underscores and thousands of digits, too."""
    if not re.fullmatch(r"[0-9]{1,16}" if base == 10 else r"[0-9a-fA-F]{1,8}", text):
        raise ValueError(f"expected {what}, found {text[:20]!r}")
    return int(text, base)


def read_answer(received: bytes | bytearray, *, ended: bool) -> tuple[Answer, bool] | None:
    """The answer in what was received, and whether the connection may be used on; None while it is not whole. Pure.

    Args:
        ended: the other side has closed; a body without a length ends there.

    Raises:
        ValueError: it is no HTTP/1.1 answer, or too long.
    """
    reader = AnswerReader()
    answer = reader.feed(bytes(received))
    return reader.end() if answer is None and ended else answer


@dataclass(frozen=True, slots=True)
class Target:
    """Where connections go. Made of a base URL, http or https."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    name: str
    prefix: str

    @classmethod
    def of(cls, url: str, context: ssl.SSLContext) -> Target:
        """The target of a base URL."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = parts.hostname or ""
        port = parts.port or (443 if secure else 80)
        return cls(host, port, context if secure else None, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"))

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        """The first lines of a request as they go over the wire; more headers may follow."""
        rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {self.prefix}{path} HTTP/1.1\r\nHost: {self.name}\r\nAccept: */*\r\n{rows}"

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """A request as it goes over the wire."""
        return f"{self.head(method, path, headers)}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


async def dial(target: Target, options: Iterable[SocketOption], limit_s: float) -> Connection:
    """A new connection whose socket has these options. Raises OSError (TimeoutError, ssl.SSLError are such)."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit_s):
        addresses = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        last: OSError = OSError(f"{target.host} has no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                for level, name, value in options:
                    sock.setsockopt(level, name, value)
                await loop.sock_connect(sock, address)
                _, connection = await loop.create_connection(
                    Connection, sock=sock, ssl=target.tls, server_hostname=target.host if target.tls else None
                )
            except OSError as error:
                last = error
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return connection
        raise last
