"""Archives of others into recordings: one module each, as their own pages and readers describe them.

Each gives frames in rising order of time, and says what the archive has and lacks. Nothing is filled in: what an archive
does not know is named in ``Contents.lacks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from recording.format import Contents, Frame
from recording.importers import kaboomfox, kacho, market, pmxt, predictionticks
from recording.importers.common import Wanted
from recording.writer import DEFAULT_BUDGET, Writer

Say = Callable[[str, dict[str, object]], None]
_FLUSH_EVERY = 5_000


@dataclass(frozen=True, slots=True)
class Importer:
    """One archive."""

    read: Callable[[Path, Wanted], Iterable[Frame]]
    contents: Contents
    about: str


IMPORTERS = {
    "market": Importer(
        market.read, market.CONTENTS, "quotes, books, prices, windows in Parquet, raw frames beside them"
    ),
    "pmxt": Importer(pmxt.read, pmxt.CONTENTS, "archive.pmxt.dev, hourly Parquet; needs --markets"),
    "kacho": Importer(kacho.read, kacho.CONTENTS, "kacho.io: <coin>_markets.parquet and <coin>_ticks.parquet"),
    "kaboomfox": Importer(kaboomfox.read, kaboomfox.CONTENTS, "kaboomfox/15btc_eth: shard_XXXX.parquet"),
    "predictionticks": Importer(
        predictionticks.read, predictionticks.CONTENTS, "predictionticks.com: CSV and order books"
    ),
}


def run_import(kind: str, source: Path, folder: Path, wanted: Wanted, say: Say) -> tuple[int, int]:
    """Import an archive into a folder; return how many frames were written and how many were not.

    Raises:
        RecordingError: the archive is not what it should be, or the folder cannot be written.
    """
    importer = IMPORTERS[kind]
    writer = Writer(
        folder,
        writer="recording import",
        origin=kind,
        contents=importer.contents,
        budget=1 << 50 if wanted.budget is None else max(wanted.budget, DEFAULT_BUDGET // 1000),
        wall_ms=lambda: 0,
        mono_ms=None,
        say=say,
    )
    try:
        for count, frame in enumerate(importer.read(source, wanted), start=1):
            writer.add(frame.source, frame.text, frame.recv_ms)
            if count % _FLUSH_EVERY == 0:
                writer.flush()
    finally:
        writer.close()
    return writer.written.frames, writer.written.dropped
