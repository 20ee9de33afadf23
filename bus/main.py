"""How every process begins and ends: UTF-8 whatever the locale, three open streams, and silence when nobody reads any more.

Text of others (a commit's subject, a market's name, a file's name) goes to every stream and file. In an ISO-8859-1 locale Python
would write it in that, and an emoji would end the process. So a process that finds itself in such a locale begins again with
Python's UTF-8 mode, which is what every file and stream without an encoding of its own then has.

Such text also reaches somebody's terminal, in a hundred ways. It moves no cursor, sets no title and hides nothing there, since
the streams themselves take out what is no text. What a program itself does to a terminal goes through `control` and `console`.
"""

from __future__ import annotations

import errno
import io
import locale
import os
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable
    from rich.segment import Segment

STREAMS = (0, 1, 2)
# Never by a proxy, whatever the environment says of proxies: this machine, and the services of compose.yaml.
# Without brackets: httpx cannot read an address in them.
DIRECT = ("localhost", "127.0.0.1", "::1", "paper", "alertmanager")

# Controls but tab and newline (ECMA-48 C0, DEL, C1), what changes the direction of text (Unicode UAX 9), other line ends.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def loopback() -> str:
    """This machine's own address: 127.0.0.1, or ::1 where it has IPv6 alone."""
    try:
        with socket.socket(socket.AF_INET) as tried:
            tried.bind(("127.0.0.1", 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return "::1"
    return "127.0.0.1"


def check_proxies(environment: Mapping[str, str]) -> None:
    """Raise ValueError where a proxy of the environment cannot be used. Its words are not said: they may have a password."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for spelled in (name, name.upper()):
            value = environment.get(spelled)
            if value:
                try:
                    parts = urlsplit(value)
                    is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
                except ValueError:
                    is_good = False
                if not is_good or re.search(r"\s", value):
                    raise ValueError(
                        f"expected http://HOST:PORT in {spelled} (SOCKS is not spoken); set it so, or unset it"
                    )


def url_host(host: str) -> str:
    """A host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def run_main(main: Callable[[], int]) -> int:
    """Run a program's main function; the exit code. Called first of all, by its `__main__`."""
    begin()
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `deployer history | head`
        _into_nothing()
        return 0


def begin() -> None:
    """Set the streams up, and leave no core dumps: keys and tokens are in memory.

    Begins the process again, in UTF-8 mode, where the locale has another encoding.
    """
    for number in STREAMS:
        _keep_open(number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # for what this process starts, too
    if not sys.flags.utf8_mode and not _is_utf8():
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for name in ("no_proxy", "NO_PROXY"):
        named = [part for part in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",") if part]
        if "*" not in named:
            os.environ[name] = ",".join(dict.fromkeys([*named, *DIRECT]))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when Python began
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if number > 0:
            _print_text_only(name)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def _is_utf8() -> bool:
    return locale.getpreferredencoding(do_setlocale=False).replace("-", "").lower() == "utf8"


def _keep_open(number: int) -> None:
    """A closed standard stream would become the number of the next file that is opened, and be written to as a stream."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _into_nothing() -> None:
    """What is still buffered shall not be complained about as the interpreter ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)
    os.close(nothing)


# What is printed.


def printable(text: str) -> str:
    """A text with a question mark for each character that a terminal would obey."""
    return _CONTROLS.sub("?", text)


class PlainText(io.TextIOWrapper):
    """A text stream that prints nothing but text."""

    def write(self, text: str) -> int:
        """Write what is printable of it."""
        return super().write(printable(text))

    def control(self, text: str) -> None:
        """Write a sequence of the program's own, as it is."""
        super().write(text)


def control(text: str, name: str = "stdout") -> None:
    """Write a terminal sequence of the program's own to a standard stream; nothing of others may be in it."""
    stream = getattr(sys, name)
    (stream.control if isinstance(stream, PlainText) else stream.write)(text)


def console() -> Console:
    """A Rich console on standard output: its own colours and cursor, and nothing but text in what it is given."""
    from rich.console import Console  # none of the bots prints by it

    made = Console(file=cast(IO[str], _Own()))
    made.push_render_hook(_TextOnly())  # type: ignore[arg-type]  # as its protocol says, without its base class
    return made


class _Own(io.TextIOBase):
    """Standard output for what was made printable already."""

    def write(self, text: str) -> int:
        control(text)
        return len(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    def fileno(self) -> int:
        return sys.stdout.fileno()


class _TextOnly:
    """A render hook of Rich, before those of its own: what it was given is printable, what it adds are its sequences."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Called for each print."""
        return [cast("ConsoleRenderable", _Printable(one)) for one in renderables]


class _Printable:
    """A renderable whose segments of text are printable."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """Called by Rich."""
        for segment in console.render(self._inner, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def _print_text_only(name: str) -> None:
    """Make a standard stream ("stdout", "stderr") one of UTF-8 that prints nothing but text."""
    stream = getattr(sys, name)
    if isinstance(stream, PlainText) or not isinstance(stream, io.TextIOWrapper):
        return
    buffering, through = stream.line_buffering, stream.write_through
    plain = PlainText(
        stream.detach(), encoding="utf-8", errors="replace", line_buffering=buffering, write_through=through
    )
    setattr(sys, name, plain)
    setattr(sys, f"__{name}__", plain)
