"""One frame to an odd one: its bytes cut, flipped and repeated, or its fields replaced, dropped and doubled. Pure."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

_RAW = {  # What no JSON writer writes, by a text that stands for it.
    "@huge": "1e1000000",
    "@tiny": "1e-1000000",
    "@nan": "NaN",
    "@infinity": "-Infinity",
    "@digits": "9" * 5_000,
    "@deep": "[" * 3_000 + "]" * 3_000,
    "@objects": '{"a":' * 600 + "1" + "}" * 600,
    "@open": "[" * 3_000,
    "@half": '"\\ud800"',
    "@zero": '"\\u0000"',
    "@exponent": "-1e999999999",
    "@forty": "0." + "3" * 40,
    "@deepest": "[" * 50_000 + "]" * 50_000,
    "@twice": '{"a":1,"a":[],"__proto__":{}}',
}
_TEXTS = (
    "", " ", "x", "1e1000000", "1e-1000000", "NaN", "-0", "Infinity", "0x10", "1_0", "٣", "9" * 400, "x" * 5_000, "\ud800",
    "\x00", "0", "1", "0.5", "0.50000000000000000000000000000000000001", "-1", "0.01", "v2", "Up", "BUY", "CONFIRMED",
    "1E+400", "-0.01", "-5", "3" * 40 + "." + "3" * 40, "\x1b[2J\x07", "a\r\nb: c\u2028", "\u202e\udc80", "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "2026-02-30T00:00:00Z", "2100-01-01T00:00:00Z",
)  # fmt: skip
_NUMBERS = (
    -1,
    0,
    1,
    2**63,
    2**64,
    -(2**63),
    10**30,
    10**400,
    0.1 + 0.2,
    1e308,
    5e-324,
    -0.01,
    1_000,
    10**12,
    253_402_300_800_000,
)
_ODD: tuple[Any, ...] = (
    *_RAW,
    *_TEXTS,
    *_NUMBERS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [""],
    ["", ""],
    {"a": {}},
    {"": None},
    [[], {}],
    [-1, "-1"],
)
_PIECES = (b"\xff", b"\x00", b"[", b"}", b'"', b"\\", b"\r\n\r\n", b"\xef\xbb\xbf", b"HTTP/1.1 100 x\r\n\r\n" * 3_000)

_NAME = re.compile(r'"\w{1,40}": ?')


def mutate(frame: bytes, rng: random.Random) -> bytes:
    """An odd frame out of a good one; now and then the good one itself."""
    roll = rng.random()
    if roll < 0.02:
        return frame
    if roll < 0.2:
        return _bytes(bytearray(frame), rng)
    try:
        whole = [json.loads(frame)]
    except ValueError:
        return _bytes(bytearray(frame), rng)
    for _ in range(1 if roll < 0.7 else rng.randint(2, 6)):
        _fields(whole, rng)
    text = json.dumps(whole[0], ensure_ascii=rng.random() < 0.5)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    names = list(_NAME.finditer(text)) if rng.random() < 0.1 else ()
    if names:  # the same key twice: which of them counts?
        key = rng.choice(names)
        text = (
            f"{text[: key.start()]}{key[0]}{json.dumps(rng.choice((None, -1, [], '', '1e9')))}, {text[key.start() :]}"
        )
    return text.encode("utf-8", "surrogatepass")


def _fields(whole: list[Any], rng: random.Random) -> None:
    """Change one value anywhere in the document, which is whole[0]."""
    holder, key = rng.choice(_places(whole))
    value, roll = copy.deepcopy(holder[key]), rng.random()
    if roll < 0.6:
        holder[key] = _odd(rng)
    elif roll < 0.7:
        holder[key] = [value]
    elif roll < 0.8 and holder is not whole:
        del holder[key]
    elif roll < 0.9 and isinstance(value, list) and value:
        holder[key] = [*value, _odd(rng), *value][: rng.randint(1, 40)]
    elif isinstance(holder, dict):
        holder[rng.choice(list(holder))] = value  # a good value in another's place
    else:
        holder[key] = (
            str(value) if not isinstance(value, str) else rng.choice((value * 3, value[::-1], value[:-1], value + "0"))
        )


def _odd(rng: random.Random) -> Any:
    """One of the odd values, of its own: the next change may go into it."""
    return copy.deepcopy(rng.choice(_ODD))


def _places(whole: list[Any]) -> list[tuple[Any, Any]]:
    """Each (container, key) of the document; of texts that are JSON, too, so that lists in texts are changed as such."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [whole]
    while waiting and len(places) < 2_000:
        holder = waiting.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            places.append((holder, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return places


def _bytes(frame: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(6):
            case 0 if frame:
                frame[at % len(frame)] ^= 1 << rng.randrange(8)
            case 1:
                del frame[at:]
            case 2:
                frame[at:at] = rng.choice(_PIECES)
            case 3:
                del frame[at : at + rng.randint(1, 20)]
            case 4:
                frame[at:at] = frame[at : at + rng.randint(1, 400)]
            case _:
                frame[at:at] = rng.randbytes(rng.randint(1, 12))
    return bytes(frame)
