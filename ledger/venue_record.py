"""The venue's own record of one wallet, to hold the ledger against: from paper's URL, or from a file of `paper record`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus import BusError

FETCH_LIMIT_S = 30
PAGE = 1000


@dataclass(slots=True)
class VenueRecord:
    """What the venue wrote down of one wallet. Rows as in docs/reference/paper.md."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    trades: list[dict[str, Any]] = field(default_factory=list)


def read_record(source: str, wallet: str) -> VenueRecord:
    """The venue's record of one wallet, from paper's URL or from a file of `python -m paper record`. Raises BusError."""
    found = VenueRecord()
    for kind, row in (
        _rows_of_url(source) if source.startswith(("http://", "https://")) else _rows_of_file(Path(source))
    ):
        try:
            if kind == "order" and row["wallet"] == wallet:
                found.orders[row["order_id"]] = row
            elif kind == "trade" and row["wallet"] == wallet:
                found.trades.append(row)
        except KeyError as error:
            raise BusError(f"{source} is not a record of paper (a row of kind {kind} has no {error})") from error
    return found


def _rows_of_url(url: str) -> Iterable[tuple[str, dict[str, Any]]]:
    after = 0
    while True:
        address = f"{url.rstrip('/')}/paper/record?after={after}&limit={PAGE}"
        try:
            with urllib.request.urlopen(address, timeout=FETCH_LIMIT_S) as answer:
                page = json.load(answer)
        except (urllib.error.URLError, TimeoutError, ValueError, OSError) as error:
            raise BusError(
                f"the venue's record could not be read from {address} ({error}); is paper running?"
            ) from error
        for kind in ("order", "trade"):
            yield from ((kind, row) for row in page.get(f"{kind}s", []))
        if page.get("next") is None:
            return
        after = int(page["next"])


def _rows_of_file(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        with path.open() as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    yield str(row["kind"]), row
                except (ValueError, KeyError, TypeError) as error:
                    raise BusError(
                        f"{path}, line {number}: expected JSON as `paper record` prints it ({error})"
                    ) from error
    except OSError as error:
        raise BusError(f"the venue's record could not be read ({error})") from error
