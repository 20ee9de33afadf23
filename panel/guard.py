"""Who may ask for what: the guard in front of every endpoint.

Against other web pages in the same browser: a list of host names (DNS rebinding), the Origin and Sec-Fetch-Site headers,
JSON alone, no cookies. Against other programs: a token on every request to the API, of scope control for a write. Against
floods: limits of size, rate, number and time, each token's its own. What a stranger asks draws on the strangers' alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from bus import Log, make_private, read_named
from panel.connections import Connections
from panel.errors import StartError

# The tokens that every request to the API needs: two files made at the first start, readable by their owner alone.
#
# Each line of a file is one token, or a name and a token; the name says in the record who wrote. Whoever has one of the read
# file may look, whoever has one of the token file may look and write.


_LINE = re.compile(r"(?:([A-Za-z0-9_.-]{1,40}) )?([A-Za-z0-9_-]{32,200})")


class Scope(StrEnum):
    """What a token allows: looking; looking and writing."""

    READ = "read"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. name: as the file has it, else the beginning of the token's hash, which says nothing about it."""

    value: str = field(repr=False)
    scope: Scope
    name: str


def load_tokens(path: Path, scope: Scope) -> tuple[tuple[Token, ...], bool]:
    """The tokens in `path`, and whether the file was made just now.

    Raises StartError: others may read it, a line is no token, it cannot be read.
    """
    try:
        made = not path.exists() and _make(path)
        stat = path.stat()
        lines = [line.strip() for line in read_named(path).decode("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"the token file {path} cannot be used ({error}); correct it or set PANEL_TOKEN_FILE"
        ) from error
    if stat.st_mode & 0o077 or stat.st_uid != os.geteuid():
        raise StartError(
            f"the token file {path} must belong to this user and have mode 0600, found mode {stat.st_mode & 0o777:04o}; "
            f"run chmod 600 {path}, or remove it and a new one is made"
        )
    matches = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    tokens = tuple(Token(m[2], scope, m[1] or token_id(m[2])) for m in matches if m)
    if not tokens or len(tokens) < len(matches):
        raise StartError(
            f"expected in {path} on each line one token of 32 to 200 letters, digits, - and _, a name and a blank before it "
            "if you like; remove the file and a new one is made"
        )
    return tokens, made


def find_token(tokens: Sequence[Token], given: str) -> Token | None:
    """The token that was given, compared in a time that says nothing about how much of it was right."""
    match = None
    for token in tokens:
        if hmac.compare_digest(given.encode(), token.value.encode()):
            match = token
    return match


def token_id(token: str) -> str:
    """A short name of the token for records; says nothing about the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:6]


def _make(path: Path) -> bool:
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        # A link, not a rename: of two panels that start at once both end up with the first one's token, whole.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
            return True
        return False
    finally:
        temporary.unlink()


# Who may ask for what: the guard in front of every endpoint.


BODY_LIMIT = 64 << 10  # bytes
BODY_TIME_LIMIT_S = 5.0
READS = frozenset({"GET", "HEAD"})
HALT = "/api/halt"
EVENTS = "/api/events"
EXCHANGE = "/api/exchange"
SEND_LIMIT_S = 10.0
# At the same time: of one token, and of all tokens that may only look. What is left belongs to those who may write.
MOST_PAGES, MOST_READERS_PAGES = 40, 60
MOST_ASKED, MOST_READERS_ASKED = 16, 24
SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that refuses: HTTP status and a sentence for people."""

    status: int
    error: str


@dataclass(slots=True)
class Bucket:
    """A rate limit: `burst` at once, `rate` a second in the long run."""

    rate: float
    burst: float
    now_s: Callable[[], float]
    _tokens: float = field(init=False)
    _at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens, self._at_s = self.burst, self.now_s()

    def take(self) -> bool:
        """Whether one more is allowed now."""
        now = self.now_s()
        self._tokens = min(self.burst, self._tokens + (now - self._at_s) * self.rate)
        self._at_s = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Quota:
    """What one token may do. pages, asked: how many event streams and other requests of it are open now."""

    reads: Bucket
    writes: Bucket
    pages: int = 0
    asked: int = 0

    @classmethod
    def fresh(cls, now_s: Callable[[], float]) -> Quota:
        """Nothing used yet."""
        return cls(Bucket(rate=100, burst=400, now_s=now_s), Bucket(rate=5, burst=30, now_s=now_s))


def check_site(path: str, headers: Headers, hosts: frozenset[str]) -> Refusal | None:
    """Whether the request was meant for this panel and comes from its own page, or from no page at all."""
    named = headers.getlist("host")
    if len(named) != 1 or _name_of(named[0]) not in hosts:
        return Refusal(
            403, "this host name is not allowed; open the panel by 127.0.0.1, or add the name to PANEL_HOSTS"
        )
    if not path.startswith("/api/"):
        return None  # a link from elsewhere to the page itself is harmless
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return Refusal(403, "cross-site request: expected one from the panel's own page")
    origin = headers.get("origin")
    if origin is not None and _address_of(origin) != named[0].lower():
        return Refusal(403, "cross-site request: expected an Origin that is this panel's own address")
    return None


def token_of(headers: Headers, tokens: Sequence[Token]) -> Token | None:
    """The token that a request carries, if it is one of ours."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return find_token(tokens, given.strip()) if scheme.lower() == "bearer" else None


def check_token(path: str, token: Token | None, *, is_write: bool) -> Refusal | None:
    """Whether the token allows it. The page's own files need none: they say nothing about the bot."""
    if token is None and (is_write or path.startswith("/api/")):
        return Refusal(
            401, "expected the header 'Authorization: Bearer TOKEN' with a token from the panel's token file"
        )
    if is_write and token is not None and token.scope is not Scope.CONTROL:
        return Refusal(
            403, "this token allows looking alone; writing needs one from the panel's token file for control"
        )
    return None


def check_body(headers: Headers) -> Refusal | None:
    """Whether a write announces JSON of an allowed size."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return Refusal(415, "expected a body of type application/json")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > BODY_LIMIT:
        return Refusal(413, f"expected a body of at most {BODY_LIMIT} bytes")
    return None


class Guard:
    """ASGI middleware: refuses what may not pass, reads a write's body within limits, adds the security headers.

    spend_code: whether a code is worth a token, once; it may wait for the disk and raise OSError.
    set_halt: sets the halt file. Whoever may ask for a halt gets it, whatever is wrong with the rest of what they sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str],
        tokens: Sequence[Token],
        now_s: Callable[[], float],
        log: Log,
        connections: Connections,
        set_halt: Callable[[], Awaitable[None]],
        spend_code: Callable[[str], bool],
    ) -> None:
        self._app, self._hosts, self._tokens, self._log = app, hosts, tokens, log
        self._connections, self._set_halt, self._spend_code = connections, set_halt, spend_code
        self._strangers = Bucket(rate=2, burst=20, now_s=now_s)
        self._quotas = {token: Quota.fresh(now_s) for token in tokens}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a WebSocket: returning closes it
        headers = Headers(scope=scope)
        path, client = scope["path"], scope.get("client")
        is_write = scope["method"] not in READS
        token = token_of(headers, self._tokens)
        scope.setdefault("state", {})["token"] = token
        if path == EXCHANGE and is_write:
            await self._exchange(headers, receive, self._secured(send, client))
            return
        refusal = check_site(path, headers, self._hosts) or check_token(path, token, is_write=is_write)
        is_halt = is_write and path.rstrip("/") == HALT and refusal is None
        if is_halt:
            await self._set_halt()
        if refusal is None and is_write:
            refusal = check_body(headers)
        refusal = self._admit(refusal, token, is_write=is_write, is_halt=is_halt)
        secured = self._secured(send, client)
        if refusal is not None:
            await self._refuse(refusal, path, secured)
            return
        if token is None:
            await self._app(scope, receive, secured)  # the page's own files; the connection goes on waiting
            return
        with self._taken(token, path, is_halt=is_halt) as free:
            if not free:
                await self._refuse(
                    Refusal(429, "too much of this token's is open already; wait and try again"), path, secured
                )
                return
            self._connections.serves(client)
            body = await _read_body(receive) if is_write else b""
            if isinstance(body, Refusal):
                await self._refuse(body, path, secured)
                return
            await self._app(scope, _replay(body, receive) if is_write else receive, secured)

    async def _exchange(self, headers: Headers, receive: Receive, send: Send) -> None:
        """A token for the code of a link. Whoever asks is a stranger until then."""
        refusal = check_site(EXCHANGE, headers, self._hosts) or check_body(headers)
        if not self._strangers.take():
            refusal = Refusal(429, "too many requests; wait a second and try again")
        body = b"" if refusal is not None else await _read_body(receive)
        if isinstance(body, bytes) and refusal is None:
            code = _code_of(body)
            try:
                spent = code is not None and await asyncio.to_thread(self._spend_code, code)
            except OSError as error:
                refusal = Refusal(503, f"the code cannot be looked at ({error}); use the token itself")
            else:
                refusal = (
                    None
                    if spent
                    else Refusal(
                        403,
                        "this link was used before, or is older than ten minutes: `./ns open` prints a new one",
                    )
                )
        elif isinstance(body, Refusal):
            refusal = body
        if refusal is not None:
            await self._refuse(refusal, EXCHANGE, send)
            return
        first = next(token for token in self._tokens if token.scope is Scope.CONTROL)
        self._log.info("code_exchanged", name=first.name)
        await _answer_json(200, {"token": first.value}, send)

    def _admit(self, refusal: Refusal | None, token: Token | None, *, is_write: bool, is_halt: bool) -> Refusal | None:
        """Whether the rate allows it. A halt always passes, and the page's own files cost nothing."""
        if refusal is None and (is_halt or token is None):
            return None
        # What is refused never costs whoever is served.
        bucket = self._strangers
        if refusal is None and token is not None:
            quota = self._quotas[token]
            bucket = quota.writes if is_write else quota.reads
        return refusal if bucket.take() else Refusal(429, "too many requests; wait a second and try again")

    @contextmanager
    def _taken(self, token: Token, path: str, *, is_halt: bool) -> Iterator[bool]:
        """Count what is open of a token while it is; False where that is too much. A halt always has room."""
        quota, kind = self._quotas[token], "pages" if path == EVENTS else "asked"
        readers = sum(getattr(other, kind) for one, other in self._quotas.items() if one.scope is Scope.READ)
        most, most_readers = (MOST_PAGES, MOST_READERS_PAGES) if kind == "pages" else (MOST_ASKED, MOST_READERS_ASKED)
        full = getattr(quota, kind) >= most or (token.scope is Scope.READ and readers >= most_readers)
        if full and not is_halt:
            yield False
            return
        setattr(quota, kind, getattr(quota, kind) + 1)
        try:
            yield True
        finally:
            setattr(quota, kind, getattr(quota, kind) - 1)

    def _secured(self, send: Send, client: tuple[str, int] | None) -> Send:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            try:
                async with asyncio.timeout(SEND_LIMIT_S):
                    await send(message)
            except TimeoutError:  # whoever asked takes nothing
                if client is not None:
                    self._connections.drop(client)

        return send_secured

    async def _refuse(self, refusal: Refusal, path: str, send: Send) -> None:
        self._log.warning("request_refused", status=refusal.status, path=ascii(path)[:80], why=refusal.error)
        await _answer_json(refusal.status, {"error": refusal.error}, send)


async def _read_body(receive: Receive) -> bytes | Refusal:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIME_LIMIT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Refusal(400, "the connection ended before the body did")
                body += message.get("body", b"")
                if len(body) > BODY_LIMIT:
                    return Refusal(413, f"expected a body of at most {BODY_LIMIT} bytes")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return Refusal(408, f"expected the whole body within {BODY_TIME_LIMIT_S:g} s")


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _answer_json(status: int, said: dict[str, str], send: Send) -> None:
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _code_of(body: bytes) -> str | None:
    """The code in the body of an exchange; None where there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    code = found.get("code") if isinstance(found, dict) else None
    return code if isinstance(code, str) else None


def _address_of(origin: str) -> str | None:
    """host[:port] of an Origin header, in lower case; None when it is not one."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _name_of(host: str) -> str:
    """The name in a Host header without its port; IPv6 addresses without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
