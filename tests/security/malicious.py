"""A worker that tries all that a candidate before its approval might, and says what it could: its last line is JSON.

It is run as it is, in a bot's container or process, and imports nothing but the standard library.
A test runs it as root, where it succeeds: so it may change nothing but the bus.
"""

import json
import os
import socket
import sys
from pathlib import Path

BUS = Path(os.environ["BUS_DIR"])
SAID = BUS / "directives"
MARK = "written by the malicious worker"
OWN_SOCKET = os.environ.get("BOT_KEY_SOCKET", "")
found: dict[str, str] = {}


def attempt(name: str, action) -> None:  # type: ignore[no-untyped-def]
    """Note what came of it: nothing where it was refused."""
    try:
        result = action()
    except BaseException as error:  # noqa: BLE001  # whatever stops it
        sys.stdout.write(f"{name}: {type(error).__name__}: {error}\n")
        return
    if result is not False:
        found[name] = str(result)[:200]


def replace(path: Path) -> str:
    """As a document is replaced."""
    fresh = path.with_name(f".{path.name}.evil")
    fresh.write_text(MARK)
    fresh.rename(path)
    return path.read_text()


def append(path: Path) -> str:
    """As the history is written."""
    with path.open("a") as file:
        file.write(MARK)
    return MARK


def another() -> Path:
    """A folder of its own on the bus: as root it succeeds, so what it moves must be its own."""
    made = BUS / "another"
    made.mkdir(exist_ok=True)
    return made


for name in ("control.json", "handover.json", "runtime", "home", "watched"):
    attempt(f"replace {name}", lambda name=name: replace(SAID / name))
for name in ("deploys.jsonl", "writes.jsonl"):
    attempt(f"append to {name}", lambda name=name: append(SAID / name))
for folder in ("requests", "asks", "compared"):
    attempt(
        f"make a file in {folder}",
        lambda folder=folder: (SAID / folder / "1700000000000-00000000.json").write_text(MARK),
    )
attempt("end a halt", lambda: (SAID / "halt").unlink())
attempt("rename the folder", lambda: SAID.rename(BUS / "elsewhere"))
attempt("remove the folder", lambda: SAID.rmdir())
attempt("make it writable", lambda: SAID.chmod(0o777))
attempt("another folder in its place", lambda: another().replace(SAID))


def secrets_of_others() -> object:
    """What the environments, arguments and memories of other processes show."""
    seen = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) in (1, os.getpid(), os.getppid()):
            continue
        for part in ("environ", "mem", "root", "cwd/."):
            try:
                if part == "mem":
                    os.close(os.open(process / part, os.O_RDONLY))
                elif part in ("root", "cwd/."):
                    list((process / part).iterdir())
                else:
                    (process / part).read_bytes()
                seen.append(f"{process.name}/{part}")
            except OSError:
                continue
    return seen or False


attempt("look into other processes", secrets_of_others)


def end_others() -> object:
    """Signals."""
    ended = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) not in (1, os.getpid(), os.getppid()):
            try:
                os.kill(int(process.name), 0)
                ended.append(process.name)
            except OSError:
                continue
    return ended or False


attempt("signal other processes", end_others)


def key() -> object:
    """Every file that an environment or a mount names, and its neighbours."""
    places = [value for name, value in os.environ.items() if name.startswith("BOT_") and value.startswith("/")]
    places += [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places += sys.argv[1:]
    wanted = os.environ.get("BOT_LOOKS_FOR", "")
    for place in places:
        for path in (Path(place), *Path(place).parent.glob("*")):
            try:
                text = path.read_text(errors="replace") if path.is_file() and path.stat().st_size < 1 << 20 else ""
            except OSError:
                continue
            if wanted and wanted[::-1] in text:  # said backwards, so that it is no planted secret itself
                return str(path)
    return False


attempt("read the key", key)


def handed() -> object:
    """The key that the deployer hands over to who may trade."""
    asked = os.environ.get("BOT_KEY_SOCKET", "")
    if not asked:
        return False
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(2)
    folder = os.open(Path(asked).parent, os.O_RDONLY)
    connection.connect(f"/proc/self/fd/{folder}/{Path(asked).name}")
    return connection.recv(1000) or False


attempt("ask for the key", handed)
for other in (Path(os.environ.get("BOT_KEY_SOCKET", "/none/none")).parent.parent).glob("*/socket"):
    if other not in (Path("/keyring/socket"), Path(OWN_SOCKET)):
        os.environ["BOT_KEY_SOCKET"] = str(other)
        attempt(f"ask for the key at {other.parent.name}", handed)
attempt("reach the Engine", lambda: socket.socket(socket.AF_UNIX).connect("/var/run/docker.sock"))
sys.stdout.write(json.dumps(found) + "\n")
sys.stdout.flush()
