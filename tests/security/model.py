"""Who may do what, as data: the tables of docs/explanation/security.md are made of it, and each line of attack names its tests.

`python -m tests.security.model` writes the tables into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"


@dataclass(frozen=True, slots=True)
class Party:
    """name: who it is. process, container: what it can reach, by runtime."""

    name: str
    process: str
    container: str


@dataclass(frozen=True, slots=True)
class Attack:
    """who: the party. tried: what it does. outcome: what comes of it. tests: modules of tests/security that try it."""

    who: str
    tried: str
    outcome: str
    tests: tuple[str, ...]


SAME = "the same"
PARTIES = (
    Party(
        "**operator**: the account that runs it, and root",
        "everything",
        "everything; membership of the group `docker` is root",
    ),
    Party(
        "**pusher**: may push to the watched branch",
        "runs code as the operator's account: the wallet, the bus, the tokens. "
        "With `DEPLOYER_BOT_USER`: the wallet, and what bots write",
        "runs code in a bot's container: the wallet, and what bots write; not the Engine's socket, the tokens or the host",
    ),
    Party(
        "**pusher, with `DEPLOYER_VERIFY=signed`**",
        "nothing without a signature of a key that `DEPLOYER_SIGNERS` names",
        SAME,
    ),
    Party("**who has a control token**", "the eight actions of the page; rollback and approve", SAME),
    Party(
        "**reader of the page**: has a token of the read file",
        "status, positions, history; no write. Own limits, so that nobody else waits for it",
        SAME,
    ),
    Party(
        "**other local account, without a token**",
        "the page's own files, `/metrics`, the paper exchange, and 5 s of a connection",
        "the same, on the published ports",
    ),
    Party("**a page of another site** in the operator's browser", "nothing", "nothing"),
    Party(
        "**a green before approval** (`DEPLOYER_ON_DIFFERENCE=always`)",
        "the operator's account: it can approve itself. With `DEPLOYER_BOT_USER`: no key, no word of people or the deployer; "
        "what bots write, signals to them, and the API credentials",
        "no key, no word of people or the deployer, no other process; what bots write: ledger, status, lease; API credentials",
    ),
    Party(
        "**a comparison of decisions**",
        "a copy of the inputs, no key; no network where the kernel grants a namespace; the account of a bot",
        "a copy of the inputs; no key, no network, no bus",
    ),
    Party(
        "**a build**",
        "the operator's account, with limits of memory, processes, time and size",
        "a build of the Engine: no bus, no key, no socket",
    ),
    Party(
        "**the venue's data**",
        "values behind a decoding boundary with bounds; what does not fit is skipped and counted",
        SAME,
    ),
)

ATTACKS = (
    Attack("pusher", "a repository whose configuration names programs: filters, fsmonitor, hooks, submodules, includes, "
           "partial clones",
           "none is run, by `ns doctor` neither", ("test_git_configuration",)),
    Attack("pusher", "replaced objects, grafts, tags, messages, certificates of others, revoked, expired or copied signatures, "
           "a list of signers of its own", "not built", ("test_signatures",)),
    Attack("pusher", "a commit of odd names and modes, of many files, of trees of trees, of zeros", "one refused build",
           ("test_odd_commits",)),
    Attack("pusher", "labels of Compose's in its Dockerfile, so that a service's commands run in its bot", "they are emptied",
           ("test_malicious_docker",)),
    Attack("pusher", "a push that replaces `bin/*` and `Makefile` of the checkout",
           "refused with `signed`, said loudly without", ("test_pushed_checkout",)),
    Attack("pusher", "a check or hook that prints its environment", "it sees an allow-list", ("test_hook_environment",)),
    Attack("green before approval", "writes approve, control, handover, history, runtime; ends a halt; replaces their folder",
           "refused by the kernel", ("test_malicious_docker", "test_malicious_process")),
    Attack("green before approval", "writes the same beside that folder, where it may", "heard by nobody", ("test_directives",)),
    Attack("green before approval", "reads key files, other processes, other units' sockets; asks for the key",
           "nothing is found, and the deployer does not answer", ("test_malicious_docker", "test_malicious_process")),
    Attack("green before approval", "waits through the deployer's death, held for long",
           "no key in its environment or memory until it is approved", ("test_keys_processes",)),
    Attack("venue's data", "mutated frames on every channel: odd numbers, depth, size, types",
           "values or counted skips; no escape, no growth", ("test_odd_frames",)),
    Attack("other local account", "links, fifos, foreign and open files on the bus; its locks",
           "refused with what to do", ("test_bus_links",)),
    Attack("other local account", "links, loops, fifos, sockets, devices, folders, huge and closed files in the place of each "
           "file of the bus, of `.run`, of keys, recordings and git", "one line; nobody waits, follows it or ends",
           ("test_planted_files",)),
    Attack("other local account", "silent connections, floods, slow bodies, guessed codes",
           "a token always finds a place, a halt always halts", ("test_panel_floods", "test_panel_codes")),
    Attack("reader", "asks as fast as it can, opens all pages that it may", "costs nobody else anything", ("test_panel_floods",)),
    Attack("page of another site", "DNS rebinding, forms", "no answer", ("test_other_sites",)),
    Attack("anybody", "20,000 odd requests to the panel (`python -m proof.requests`)",
           "no 5xx, no stop, no growth", ("test_odd_requests",)),
    Attack("anybody", "reads logs, errors, core dumps for secrets in any spelling", "they are starred, and no core is left",
           ("test_secrets_in_text",)),
)  # fmt: skip


def tables() -> dict[str, str]:
    """The text between two marks of the page, by their name."""
    parties = ["| party | as processes | in containers |", "|---|---|---|"]
    parties += [f"| {party.name} | {party.process} | {party.container} |" for party in PARTIES]
    attacks = ["| who | tries | what comes of it | tried by |", "|---|---|---|---|"]
    attacks += [
        f"| {a.who} | {a.tried} | {a.outcome} | {', '.join(f'`{name}.py`' for name in a.tests)} |" for a in ATTACKS
    ]
    return {"parties": "\n".join(parties), "attacks": "\n".join(attacks)}


def page(text: str) -> str:
    """The page with its tables as they are made of the data. Raises ValueError: a mark is missing."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{PAGE}: expected the marks {begin.strip()} and {end.strip()}, found one or none")
        text = f"{before}{begin}{table}{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
