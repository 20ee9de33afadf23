"""HTTP/1.1 as far as an order needs it: one request at a time on a connection that is open already, written in one piece.

A general client takes about a millisecond of processor to get a request out; this takes a tenth of that, and the time from a
price to an order is what this bot lives on. No redirects, no compression, no retries: an error is the caller's to judge.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_MOST_BYTES = 1 << 20
_MOST_HEAD = 64 << 10

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
        self._received = bytearray()
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
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

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
        self._received += data
        try:
            found = read_answer(self._received, ended=False)
        except ValueError as error:
            self._fail(BrokenError(f"no HTTP answer: {error}"))
            return
        if found is not None:
            self._give(*found)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._waiting is None or self._waiting.done():
            return
        try:
            found = read_answer(self._received, ended=exc is None)
        except ValueError:
            found = None
        if found is None:
            self._waiting.set_exception(
                BrokenError(f"the connection ended before an answer: {exc or 'closed by the other side'}")
            )
        else:
            self._give(*found)

    def _give(self, answer: Answer, keep: bool) -> None:
        assert self._waiting is not None, "an answer to a request"
        self._received.clear()
        self._waiting.set_result(answer)
        if not keep:
            self.abort()

    def _fail(self, error: BrokenError) -> None:
        assert self._waiting is not None, "an answer to a request"
        self._waiting.set_exception(error)
        self.abort()


def read_answer(received: bytes | bytearray, *, ended: bool) -> tuple[Answer, bool] | None:
    """The answer in what was received, and whether the connection may be used on; None while it is not whole. Pure.

    Args:
        ended: the other side has closed; a body without a length ends there.

    Raises:
        ValueError: it is no HTTP/1.1 answer, or too long.
    """
    head, found, rest = bytes(received).partition(b"\r\n\r\n")
    if len(received) > _MOST_BYTES + _MOST_HEAD or (not found and len(head) > _MOST_HEAD):
        raise ValueError(f"longer than {_MOST_BYTES} bytes")
    if not head.startswith(b"HTTP/1.1 "[: len(head)]):
        raise ValueError(f"expected HTTP/1.1, found {head[:20]!r}")
    if not found:
        return None
    line, *rows = head.decode("latin-1").split("\r\n")
    status = int(line[9:12])
    if 100 <= status < 200:  # interim: the answer proper follows
        return read_answer(rest, ended=ended) if rest else None
    headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    keep = headers.get("connection", "").lower() != "close"
    if status in (204, 304):
        return Answer(status, b""), keep and not rest
    if "chunked" in headers.get("transfer-encoding", "").lower():
        chunks = _read_chunks(rest)
        return None if chunks is None else (Answer(status, chunks), keep)
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= _MOST_BYTES:
            raise ValueError(f"a body of {length} bytes")
        if len(rest) < length:
            return None
        return Answer(status, rest[:length]), keep and len(rest) == length
    return (Answer(status, rest), False) if ended else None


def _read_chunks(rest: bytes) -> bytes | None:
    """The body in chunks; None while it is not whole. Trailers are read over."""
    body = b""
    while True:
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return body if rest == b"\r\n" or rest.endswith(b"\r\n\r\n") else None
        if not 0 < size <= _MOST_BYTES:
            raise ValueError(f"a chunk of {size} bytes")
        if len(rest) < size + 2:
            return None
        body, rest = body + rest[:size], rest[size + 2 :]


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
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        last: OSError = OSError(f"{target.host} has no address")
        for family, kind, protocol, _, address in found:
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
