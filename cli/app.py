"""The tree of commands: `ns WORD`. Each says in one line what it does, and is carried out by whoever's subject it is.

Exit codes: 0 done; 1 done, and the answer is no (a deploy failed, an invariant is broken); 2 it could not be done as asked (one
line on stderr says why); 130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from bus.version import VERSION
from cli.config import ConfigError, with_file
from cli.place import EXIT_BAD_INPUT, Place, PlaceError, find_place

# The checkout; where ns was installed as a package, or is in a container, the folder that it is called in.
_BESIDE = Path(__file__).parents[1]
ROOT = _BESIDE if (_BESIDE / "bin" / "runtime").exists() else Path.cwd()

app = typer.Typer(
    name="ns",
    help="Never Sleeps: a trading bot whose code is replaced while it trades.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Only ask; do not show the steps.")]
Deploys = Annotated[bool, typer.Option("--deploys", help="Not trading but deploys of new commits.")]
Slot = Annotated[str, typer.Option("--slot", metavar="SLOT", help="Of one slot alone, such as BTC-5m.")]


def main() -> int:
    """Run one command; returns the exit code where it did not become another process."""
    try:
        code = app(prog_name="ns", standalone_mode=False)
    except (PlaceError, ConfigError) as error:
        print(f"ns: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except typer.Abort:
        return 130
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:
        # A usage error of the library: one line, and where the help is.
        if not hasattr(error, "format_message"):
            raise
        print(f"ns: {error.format_message()}; see ns --help", file=sys.stderr)
        return EXIT_BAD_INPUT
    return code if isinstance(code, int) else 0


def _place() -> Place:
    return find_place({**with_file(ROOT), "NEVER_SLEEPS_CONFIGURED": "1"}, root=ROOT)


def _flags(**given: bool | str | int | float | None) -> list[str]:
    """Options as a command line has them; those that are off or not given are left out."""
    words: list[str] = []
    for name, value in given.items():
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (False, None, ""):
            words.append(f"{option}={value}")
    return words


def _do(module: str, *arguments: str) -> int:
    place = _place()
    return place.become(place.command(module, *arguments))


def _do_saying(module: str, *arguments: str, as_json: bool) -> int:
    """For a command that has no JSON of its own: its lines and exit code, as one object."""
    place = _place()
    command = place.command(module, *arguments)
    return place.answer_as_json(command) if as_json else place.become(command)


# --- run and end


@app.command()
def run(
    fast: Annotated[bool, typer.Option("--fast", help="1 s polls on windows of 30 and 90 s.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Real prices, play money.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on without a terminal.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Watch what DEPLOYER_REPOSITORY and ..._BRANCH name.")] = False,
    yes: Yes = False,
) -> int:
    """Trade on paper, or live. Ctrl-C ends all of it."""
    from cli.settings import may_run_with

    place = _place()
    given = {name: "1" for name, on in (("FAST", fast), ("LIVE", mirror), ("DETACH", detach), ("WATCH", watch)) if on}
    if not may_run_with(place, fast=fast, mirror=mirror, agreed=yes):
        return 1
    if place.runtime == "docker":
        return place.become(place.script("compose", "run"), **given)
    return place.become(place.command("deployer", "up", *_flags(fast=fast, mirror=mirror, detach=detach, watch=watch)))


@app.command()
def stop(yes: Yes = False) -> int:
    """End everything, the bots first. Asks."""
    place = _place()
    if place.runtime == "docker":
        return place.become(place.script("compose", "stop", *_flags(yes=yes)))
    return place.become(place.command("deployer", "down", *_flags(yes=yes)))


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every second.")] = False, as_json: Json = False
) -> int:
    """Who trades, which commit, what is being deployed."""
    place = _place()
    words = _flags(watch=watch, json=as_json)
    if place.runtime == "docker":
        return place.become(place.script("compose", "status", *words))
    return place.become(place.command("deployer", "status", *words))


# --- trading: what the page's buttons do


@app.command()
def halt(as_json: Json = False) -> int:
    """Stop all entries at once; exits stay possible.

    It works when nothing else does: the halt file alone is enough.
    """
    return _do("panel", "halt", *_flags(json=as_json))


@app.command()
def pause(
    deploys: Deploys = False,
    for_: Annotated[str, typer.Option("--for", metavar="TIME", help="30m, 2h, 1h30m: it ends by itself then.")] = "",
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for who reads the page.")] = "",
    as_json: Json = False,
) -> int:
    """No entries; exits go on. With --deploys: no new commit is deployed by itself."""
    return _do("deployer" if deploys else "panel", "pause", *_flags(for_=for_, why=why, json=as_json))


@app.command()
def resume(
    deploys: Deploys = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also when trading was halted.")] = False,
    as_json: Json = False,
) -> int:
    """Entries again. With --deploys: the branch's commits are deployed again."""
    if deploys:
        return _do("deployer", "resume", *_flags(json=as_json))
    return _do("panel", "resume", *_flags(yes=yes, json=as_json))


@app.command()
def flatten(
    slot: Annotated[str, typer.Argument(metavar="[SLOT]", help="One slot, such as BTC-5m; else all.")] = "",
    as_json: Json = False,
) -> int:
    """Sell what is held in the present windows."""
    return _do("panel", "flatten", *([slot] if slot else []), *_flags(json=as_json))


@app.command(name="set")
def set_(
    values: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="risk.max_order=25, slot.BTC-5m=off, strategy.NAME=VALUE"),
    ],
    as_json: Json = False,
) -> int:
    """Change limits, slots, parameters while it trades."""
    return _do("panel", "set", *_flags(json=as_json), "--", *values)


# --- code


@app.command()
def push(
    remote: Annotated[str, typer.Argument(metavar="[REMOTE]", help="Where to; else what is watched.")] = "",
) -> int:
    """Push the commit checked out here, and watch its deploy."""
    from cli.pushing import push_here

    return push_here(_place(), remote)


@app.command()
def deploy(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A branch, tag or sha of the watched repository.")],
    now: Annotated[
        bool, typer.Option("--now", help="Wait neither for an approval nor for a venue that is down.")
    ] = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Deploy a commit, also one that failed before."""
    return _do("deployer", "deploy", *_flags(now=now, no_wait=no_wait, json=as_json), "--", ref)


@app.command()
def rollback(
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="That commit; else the one before.")] = "",
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Go back to the commit that was confirmed before."""
    return _do("deployer", "rollback", *_flags(no_wait=no_wait, json=as_json), *(["--", ref] if ref else []))


@app.command()
def approve(
    ref: Annotated[str, typer.Argument(metavar="[DEPLOY]", help="Its id or sha; else the one that is held.")] = "",
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Let a deploy go on that is held."""
    return _do("deployer", "approve", *_flags(no_wait=no_wait, json=as_json), *(["--", ref] if ref else []))


@app.command()
def cancel(as_json: Json = False) -> int:
    """Give up the deploy that is under way."""
    return _do("deployer", "cancel", *_flags(json=as_json))


@app.command()
def plan(
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="That commit; else the newest.")] = "",
    as_json: Json = False,
) -> int:
    """What would happen if a commit were deployed, and why."""
    return _do("deployer", "plan", *_flags(json=as_json), *(["--", ref] if ref else []))


@app.command()
def history(as_json: Json = False) -> int:
    """The newest deploys and their steps."""
    return _do("deployer", "history", *_flags(json=as_json))


@app.command()
def logs(
    deploy: Annotated[str, typer.Argument(metavar="DEPLOY", help="An id or a sha that history shows.")],
    lines: Annotated[int, typer.Option("--lines", min=0, help="Of its bot's output, at most.")] = 200,
    as_json: Json = False,
) -> int:
    """All that is kept of one deploy, its bot's output too."""
    return _do("deployer", "logs", *_flags(lines=lines, json=as_json), "--", deploy)


# --- what happened


@app.command()
def audit(
    venue: Annotated[
        str,
        typer.Option("--venue", metavar="SOURCE", help="The venue's own record to compare with: paper, a URL, a file."),
    ] = "",
    max_missed: Annotated[
        int, typer.Option("--max-missed", min=-1, metavar="N", help="Also fail when more polls were missed.")
    ] = -1,
    as_json: Json = False,
) -> int:
    """Check the ledger; exit 1 where an invariant is broken."""
    from cli.settings import paper_url

    place = _place()
    source = paper_url(place) if venue == "paper" else venue
    most = [f"--max-missed={max_missed}"] if max_missed >= 0 else []
    return place.become(place.command("bot", "audit", *_flags(venue=source, json=as_json), *most))


@app.command()
def trades(
    slot: Slot = "",
    last: Annotated[int, typer.Option("--last", min=0, metavar="N", help="How many at most; 0: all of them.")] = 20,
    as_json: Json = False,
) -> int:
    """The newest trades of ours, from the ledger."""
    return _do("panel", "rows", "fills", *_flags(slot=slot, json=as_json), f"--last={last}")


@app.command()
def export(
    table: Annotated[str, typer.Argument(metavar="orders|fills|outcomes")],
    slot: Slot = "",
    as_json: Json = False,
) -> int:
    """Print a table of the ledger as CSV.

    For example: ns export fills > fills.csv
    """
    if table not in ("orders", "fills", "outcomes"):
        print(f"ns: expected orders, fills or outcomes, found {table!a:.40}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return _do("panel", "rows", table, *_flags(slot=slot, json=as_json, csv=not as_json), "--last=0")


@app.command()
def adopt(
    yes: Yes = False, note: Annotated[str, typer.Option(help="Why, for the record.")] = "", as_json: Json = False
) -> int:
    """Record what the account has as its owner's own.

    It shows first what the ledger does not know. The bot leaves that alone.
    """
    return _do_saying("bot", "adopt", *_flags(yes=yes, note=note), as_json=as_json)


@app.command()
def settle(
    what: Annotated[str, typer.Argument(metavar="ORDER|WINDOW")],
    verdict: Annotated[str, typer.Option("--as", metavar="filled|refused|Up|Down|Void")],
    note: Annotated[str, typer.Option(help="How you know, for the record.")],
    shares: Annotated[str, typer.Option(metavar="N", help="Filled in all.")] = "",
    as_json: Json = False,
) -> int:
    """End an order or a window by your word."""
    words = [f"--as={verdict}", *_flags(note=note, shares=shares)]
    return _do_saying("bot", "settle", *words, "--", what, as_json=as_json)


# --- words whose options are their own: ns replay --help

_PASSED_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON)
def explain(context: typer.Context) -> int:
    """The life of an order, of a slot's newest, of a tick."""
    from cli.settings import paper_url

    place = _place()
    url = paper_url(place)
    words = [re.sub(r"^(--venue=)?paper$", rf"\g<1>{url}", word) for word in context.args]
    return place.become(place.command("bot", "explain", *words))


# What carries each out, its first words there, and what it does.
PASSED_ON: dict[str, tuple[str, tuple[str, ...], str]] = {
    "replay": ("bot", ("replay",), "The same decisions on a recording or a tape."),
    "record": ("bot", ("record",), "Write what the market says, for replay and paper."),
    "paper": ("paper", (), "The exchange by itself, on this machine."),
    "calibrate": ("bot", ("calibrate",), "What was predicted, and what happened."),
    "compare": ("bot", ("compare",), "What other code would have decided in the last hour."),
    "credentials": ("bot", ("credentials",), "Derive the venue's API credentials; once, for live."),
    "init": ("deployer", ("init",), "Make a repository ready to be pushed to."),
    "new": ("deployer", ("new",), "Make a repository of one's own, with a strategy."),
    "watch": ("deployer", ("watch",), "Watch another branch from the next start on."),
    "check": ("deployer", ("check",), "Whether a worker keeps the contract."),
    "backup": ("deployer", ("backup",), "What the bus cannot lose, in one file."),
    "restore": ("deployer", ("restore",), "Fill an empty bus from a backup."),
    "move": ("deployer", ("move",), "Say that the bus's original has ended for good."),
    "notify": ("panel", ("notify",), "Who is notified; with --test, does it reach you?"),
    "test-alert": ("deployer", ("test-alert",), "Send a test alert: does it reach you?"),
}


def _pass_on(word: str, module: str, first: tuple[str, ...], text: str) -> None:
    def command(context: typer.Context) -> int:
        return _do(module, *first, *context.args)

    app.command(word, help=text, context_settings=_PASSED_ON)(command)


for _word, _carried_out in PASSED_ON.items():
    _pass_on(_word, *_carried_out)


# --- this checkout


@app.command(name="open")
def open_() -> int:
    """Print a link that opens the panel once, and open it."""
    from cli.settings import panel_url

    place = _place()
    answer = place.ask(place.command("panel", "link", f"--url={panel_url(place)}"), 60.0)
    sys.stderr.write(answer.stderr)
    link = answer.stdout.strip()
    if answer.returncode != 0 or not link:
        return answer.returncode or 1
    print(link)
    if sys.stdout.isatty() and os.environ.get("DISPLAY", os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(link)
    return 0


@app.command()
def token(as_json: Json = False) -> int:
    """Print the token that opens the panel and may write."""
    return _do_saying("panel", "token", as_json=as_json)


@app.command()
def config(as_json: Json = False) -> int:
    """Every setting, where it comes from, what runs otherwise."""
    from cli.settings import show

    print(show(_place(), as_json=as_json))
    return 0


@app.command()
def doctor(as_json: Json = False) -> int:
    """Say what keeps it from trading, and the cure."""
    from cli.doctor import examine, report

    found = examine(ROOT, os.environ)
    print(report(found, as_json=as_json))
    return 1 if any(not finding.good for finding in found) else 0


@app.command()
def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish")]) -> int:
    """Print the script that completes ns's words.

    For example: ns completion bash >> ~/.bashrc
    """
    if shell not in ("bash", "zsh", "fish"):
        print(f"ns: expected bash, zsh or fish, found {shell!a:.40}", file=sys.stderr)
        return EXIT_BAD_INPUT
    os.environ["_NS_COMPLETE"] = f"source_{shell}"  # the library's own way to ask for it
    return main()


@app.command()
def version() -> int:
    """Print the version."""
    print(VERSION)
    return 0
