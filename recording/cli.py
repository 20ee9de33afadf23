"""The command line: ``python -m recording check | export | tape | import``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recording.errors import RecordingError
from recording.format import Frame
from recording.importers import IMPORTERS, run_import
from recording.importers.common import Wanted, read_markets
from recording.reader import Reader
from recording.tables import write_tables
from recording.tapes import write_tapes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 where ``check`` found something wrong, 2 for a mistake of the call or the files."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except RecordingError as error:
        print(f"recording: {error}", file=sys.stderr)
        return 2


def _check(options: argparse.Namespace) -> int:
    reader, sources = Reader(options.recording), Counter[str]()
    first_ms = last_ms = 0
    for item in reader:
        first_ms, last_ms = first_ms or item.recv_ms, item.recv_ms
        if isinstance(item, Frame):
            sources[item.source] += 1
    print(
        json.dumps(
            {
                "files": len(reader.files),
                "bytes": sum(path.stat().st_size for path in reader.files),
                "origin": reader.header.origin,
                "lacks": [str(one) for one in reader.contents.lacks],
                "first_ms": first_ms,
                "last_ms": last_ms,
                "frames": dict(sorted(sources.items())),
                "problems": {str(kind): count for kind, count in sorted(reader.counts.items())},
            }
        )
    )
    for problem in reader.problems:
        print(f"{problem.kind}: {problem.text}", file=sys.stderr)
    return int(bool(reader.problems))


def _export(options: argparse.Namespace) -> int:
    reader = Reader(options.recording)
    counts = write_tables(reader, options.out)
    print(json.dumps({"rows": counts, "problems": {str(kind): count for kind, count in sorted(reader.counts.items())}}))
    return 0


def _tape(options: argparse.Namespace) -> int:
    for path, bars in write_tapes(Reader(options.recording), options.out).items():
        print(f"{path}: {bars} bars")
    return 0


def _import(options: argparse.Namespace) -> int:
    markets, events = read_markets(options.markets) if options.markets is not None else ({}, {})
    assets = tuple(part.strip().upper() for part in options.assets.split(",") if part.strip())
    wanted = Wanted(markets, events, assets, options.all)
    written, dropped = run_import(
        options.kind, options.source, options.out, wanted, lambda event, facts: print(event, facts, file=sys.stderr)
    )
    print(json.dumps({"frames": written, "dropped": dropped}))
    if not written:
        raise RecordingError(f"{options.source}: nothing in it was wanted; see --assets, --markets and --all")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recording",
        description="Recordings of a market: what is in them, tables and tapes of them, archives of others into them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check", help="say what a recording has and what is wrong with it; exit 1 if anything is"
    )
    export = commands.add_parser("export", help="write quotes, trades, prices and windows as Parquet")
    tape = commands.add_parser("tape", help="write the lead prices as tapes of one-second bars")
    for command, run in ((check, _check), (export, _export), (tape, _tape)):
        command.add_argument("recording", type=Path, metavar="DIR", help="folder of a recording, or one of its files")
        command.set_defaults(run=run)
    for command in (export, tape):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    bring = commands.add_parser(
        "import",
        help="make a recording of an archive",
        epilog="; ".join(f"{name}: {importer.about}" for name, importer in IMPORTERS.items()),
    )
    bring.add_argument("kind", choices=sorted(IMPORTERS), help="which archive")
    bring.add_argument("source", type=Path, help="its folder, or one of its files")
    bring.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the recording")
    bring.add_argument("--markets", type=Path, metavar="FILE", help="Gamma's events of the wanted windows, one a line")
    bring.add_argument("--assets", default="", metavar="A,B", help="of these alone")
    bring.add_argument("--all", action="store_true", help="also windows that the archive calls unusable")
    bring.set_defaults(run=_import)
    return parser
