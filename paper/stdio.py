"""The standard streams: UTF-8 whatever the locale, always open, and silent when nobody reads any more.

The same as ``bus.main``, which paper does not import: it stands alone.
"""

from __future__ import annotations

import errno
import io
import locale
import os
import re
import socket
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

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


def begin() -> None:
    """Set the streams up. Begins the process again, in UTF-8 mode, where the locale has another encoding."""
    for number in STREAMS:
        _keep_open(number)
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
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
            if number > 0:
                by_line, through = stream.line_buffering, stream.write_through
                buffer = stream.detach()
                plain = PlainText(
                    buffer, encoding="utf-8", errors="replace", line_buffering=by_line, write_through=through
                )
                setattr(sys, name, plain)
                setattr(sys, f"__{name}__", plain)


class PlainText(io.TextIOWrapper):
    """A text stream that prints nothing but text: a name of others moves no cursor and sets no title."""

    def write(self, text: str) -> int:
        """Write it with a question mark for each character that a terminal would obey."""
        return super().write(_CONTROLS.sub("?", text))


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


def end() -> None:
    """What is still buffered shall not be complained about as the interpreter ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
