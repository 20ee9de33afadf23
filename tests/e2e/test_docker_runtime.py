"""The docker runtime against a real Engine, with commits whose images are made in a second."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bus import Bus, SystemClock, open_bus
from deployer import BuildError, RuntimeFailedError, Start, Unit
from deployer.push.repository import Repository
from deployer.runtimes.api import BuildInputs, read_build_inputs
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.docker.body import BUS, IMAGE, LABELS, Place
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.images import Images
from deployer.runtimes.docker.room import BUILDS, BuildRoom
from deployer.runtimes.docker.runtime import DockerRuntime, Given
from tests import patience
from tests.e2e.deployer_rig import GIT
from tests.e2e.docker_engine import BASE, USER, docker, need_engine, own, place_for
from tests.e2e.rig import ROOT, until

need_engine()

LIMIT_S = 30.0
WORKER = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
open("/bus/began", "w").close()
print("began", flush=True)
time.sleep(3600)
"""
DOCKERFILE = f'FROM {BASE} AS bot\nCOPY worker.py /\nENTRYPOINT ["python3", "-u", "/worker.py"]\n'


class Rig:
    """A repository of tiny workers, and runtimes of one bus."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.place = folder, place
        self.repository = folder / "repository"
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.warnings: list[str] = []
        self.inputs: Callable[[], BuildInputs] = BuildInputs
        self.limits = BuildLimits()
        self.runtime = self.new_runtime()

    def new_runtime(self, *, with_buildx: bool = True) -> DockerRuntime:
        """A runtime as a deployer that starts anew makes it."""
        engine, run = Engine("unix:///var/run/docker.sock"), self.folder / "run"
        images = Images(
            engine,
            Repository(self.repository),
            run / "builds",
            self.place.bus_id,
            BuildRoom(engine, self.place.bus_id, self.place.image, self.limits, self.warnings.append),
            limit_s=60,
            inputs=self.inputs,
            project=self.place.project,
        )
        if not with_buildx:
            images._has_buildx = False
        return DockerRuntime(
            images,
            self.place,
            Bus(Path(self.place.bus.source)),
            run,
            SystemClock(),
            self.warnings.append,
            keep=1,
            given=Given({"BOT_X": "1"}),
        )

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.repository, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self, dockerfile: str = DOCKERFILE, worker: str = WORKER) -> str:
        """Commit a worker; returns the sha."""
        (self.repository / "Dockerfile").write_text(dockerfile)
        (self.repository / "worker.py").write_text(worker)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    async def started(self, sha: str, color: str = "blue") -> str:
        """Build and start a commit; returns the unit's name when its worker began."""
        await self.runtime.build(sha)
        unit = await self.runtime.start(Start(sha, color, "deploy-1"))
        await self.until(unit, lambda found: found.running)
        began = Path(self.place.bus.source, "began")
        await self.until(unit, lambda _: began.exists())
        began.unlink()
        return unit

    async def until(self, unit: str, holds: Callable[[Unit], bool]) -> Unit:
        """Wait until a unit is as expected."""
        async with patience.timeout(LIMIT_S):
            while True:
                found = {known.name: known for known in await self.runtime.units()}
                if unit in found and holds(found[unit]):
                    return found[unit]
                await asyncio.sleep(0.02)

    async def names(self) -> list[str]:
        """Names of all units."""
        return [unit.name for unit in await self.runtime.units()]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A bus, a network and an empty repository."""
    bus = open_bus(tmp_path / "bus")
    own(bus.directory)
    async with AsyncExitStack() as stack:
        yield Rig(tmp_path, stack.enter_context(place_for(bus.directory)))


async def until_async(holds: Callable[[], bool]) -> None:
    """Wait until something outside of this loop holds."""
    async with patience.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)


def inspect(name: str) -> dict[str, Any]:
    """What the Engine shows of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


SECRET = "s3cr3t-w0rd-of-the-test"
WITH_INPUTS = f"""FROM {BASE} AS bot
ARG INDEX
COPY worker.py /
RUN --mount=type=secret,id=token echo "$INDEX" $(wc -c < /run/secrets/token) > /used; sleep 0.5
ENTRYPOINT ["python3", "-u", "/worker.py"]
"""
PRINTS = f"FROM {BASE} AS bot\nCOPY worker.py /\nRUN --mount=type=secret,id=token cat /run/secrets/token && false\n"


async def test_build_arguments_and_secrets_reach_the_build_and_a_secret_nothing_else(rig: Rig) -> None:
    """The build reads both; the secret is in no layer, history, command line or error; the classic builder refuses it."""
    token = rig.folder / "secrets" / "token"
    token.parent.mkdir()
    token.touch(mode=0o600)
    token.write_text(SECRET)
    (rig.folder / "args").write_text("INDEX=https://index.test\n")
    rig.inputs = partial(read_build_inputs, rig.folder / "args", token.parent)
    rig.runtime = rig.new_runtime()
    sha = rig.commit(WITH_INPUTS, WORKER + f"# {secrets.token_hex(8)}")
    building = asyncio.create_task(rig.runtime.build(sha))
    lines: set[bytes] = set()
    while not building.done():
        lines |= {line for pid in Path("/proc").glob("[0-9]*") if (line := _command_line(pid))}
        await asyncio.wait([building], timeout=0.02)
    await building
    assert any(b"--secret=id=token,src=" in line for line in lines)
    assert not any(SECRET.encode() in line or b"index.test" in line for line in lines)
    image = f"never-sleeps-bot:{sha}"
    assert _said_by("--entrypoint=cat", image, "/used") == f"https://index.test {len(SECRET)}"
    assert SECRET not in docker("history", "--no-trunc", image) + docker("inspect", image)
    saved = rig.folder / "image.tar"
    docker("save", f"--output={saved}", image)
    assert SECRET.encode() not in saved.read_bytes()
    failing = rig.commit(PRINTS, WORKER + f"# {secrets.token_hex(8)}")
    with pytest.raises(BuildError) as failed:
        await rig.runtime.build(failing)
    assert SECRET not in str(failed.value) + failed.value.output
    assert "***" in failed.value.output
    with pytest.raises(
        BuildError, match="the classic builder would keep them in the image; install Docker's plugin buildx"
    ):
        await rig.new_runtime(with_buildx=False).build(failing)


HUNGRY = "x = bytearray(600 << 20); print(len(x))"
FORKS = "import subprocess; [subprocess.Popen(['sleep', '20']) for _ in range(200)]"


@pytest.mark.parametrize(
    ("code", "said"), [(HUNGRY, "DEPLOYER_BUILD_MEMORY"), (FORKS, "Resource temporarily unavailable")]
)
async def test_a_build_has_limits_of_memory_and_processes(rig: Rig, code: str, said: str) -> None:
    """What takes more fails as a build that says so; the room that limits it is gone with the deployer."""
    rig.place = replace(rig.place, image=docker("inspect", "--format={{.Id}}", BASE))
    rig.limits = BuildLimits(memory=256 << 20, processes=100)
    rig.runtime = rig.new_runtime()
    watching = asyncio.create_task(rig.runtime.watch(lambda: None))
    await until_async(lambda: rig.runtime._images.room.cgroup is not None)
    sha = rig.commit(f'FROM {BASE} AS bot\nCOPY worker.py /\nRUN python3 -c "{code}" # {secrets.token_hex(8)}\n')
    with pytest.raises(BuildError) as failed:
        await rig.runtime.build(sha)
    assert said in str(failed.value) + failed.value.output
    watching.cancel()
    await asyncio.wait([watching])
    assert not docker("ps", "--all", "--quiet", "--filter", f"label={BUILDS}={rig.place.bus_id}")
    assert not rig.warnings


async def test_a_commit_that_is_too_large_is_not_sent_to_the_engine(rig: Rig) -> None:
    """Its files are measured before anything is built of them."""
    rig.limits = BuildLimits(size=1 << 20)
    rig.runtime = rig.new_runtime()
    sha = rig.commit(worker="#" * (2 << 20))
    with pytest.raises(BuildError, match="more than 1 MB"):
        await rig.runtime.build(sha)
    assert not list((rig.folder / "run" / "builds").iterdir())


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # it ended


async def test_inspect_of_a_running_bot_shows_every_flag(rig: Rig) -> None:
    """User, root, /tmp, capabilities, privileges, limits, init, logs, network, mounts and no port, as the Engine has them."""
    sha = rig.commit()
    unit = await rig.started(sha)
    shown = inspect(unit)
    host, config = shown["HostConfig"], shown["Config"]
    assert config["User"] == f"{USER[0]}:{USER[1]}" != "0:0"
    assert host["ReadonlyRootfs"] is True
    assert {"noexec", "nosuid"} <= set(host["Tmpfs"]["/tmp"].split(","))
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["MaskedPaths"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (1 << 30, 1 << 30, 256)
    assert host["Ulimits"] == [{"Name": "core", "Hard": 0, "Soft": 0}]
    assert (host["Init"], config["StopTimeout"], host["RestartPolicy"]["Name"]) == (True, 60, "no")
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
    assert (host["PidMode"], host["IpcMode"], host["UTSMode"], host["UsernsMode"]) == ("", "private", "", "")
    assert (host["CgroupnsMode"], host["NetworkMode"]) == ("private", rig.place.network)
    assert [(mount["Source"], mount["Destination"]) for mount in shown["Mounts"]] == [(rig.place.bus.source, "/bus")]
    assert not shown["NetworkSettings"]["Ports"]
    assert set(config["Labels"]) >= LABELS
    assert config["Image"] == f"never-sleeps-bot:{sha}"
    assert rig.warnings == []
    said = docker(
        "exec", unit, "sh", "-c", "touch /x 2>&1; id -u; grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status"
    )
    assert "Read-only file system" in said
    assert [line.split()[-1] for line in said.splitlines()[1:]] == [str(USER[0]), "0" * 16, "1", "2"]


async def test_a_container_that_the_engine_made_otherwise_is_never_started(rig: Rig) -> None:
    """An image that brings a volume of its own is refused after create, and nothing of it is left."""
    sha = rig.commit(DOCKERFILE + "VOLUME /extra\n")
    await rig.runtime.build(sha)
    with pytest.raises(RuntimeFailedError, match=r"was refused: a mount of .* at /extra"):
        await rig.runtime.start(Start(sha, "blue", "deploy-1"))
    assert not docker("ps", "--all", "--quiet", "--filter", f"label={BUS}={rig.place.bus_id}")
    assert not Path(rig.place.bus.source, "began").exists()


async def test_a_tag_that_was_moved_to_another_image_starts_nothing(rig: Rig) -> None:
    """Somebody tags another image with a commit's name: the commit counts as not built, and is built again."""
    sha, other = rig.commit(), rig.commit(worker="print('other')")
    for built in (sha, other):
        await rig.runtime.build(built)
    assert await rig.runtime.built() == {sha, other}
    docker("tag", f"never-sleeps-bot:{other}", f"never-sleeps-bot:{sha}")
    assert await rig.runtime.built() == {other}
    with pytest.raises(RuntimeFailedError, match="its image is gone"):
        await rig.runtime.start(Start(sha, "blue", "deploy-1"))
    await rig.runtime.build(sha)
    assert await rig.runtime.built() == {sha, other}


async def test_two_checkouts_on_one_engine_share_no_image(rig: Rig, tmp_path: Path) -> None:
    """Both built the same commit, each on its own base, by the names of their projects; neither moves the other's tag."""
    projects = {f"ns-test-{secrets.token_hex(4)}": word for word in ("mine", "other")}
    sha = rig.commit("FROM never-sleeps-bot:base AS bot\nRUN cp /whose /built-on\n")
    runtimes = {}
    try:
        for project, word in projects.items():
            (tmp_path / "base").mkdir(exist_ok=True)
            (tmp_path / "base" / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {word} >/whose\n")
            docker("build", "--quiet", f"--tag={project}-bot:base", str(tmp_path / "base"))
            rig.place = replace(rig.place, bus=replace(rig.place.bus, source=f"/{project}"), project=project)
            runtimes[project] = rig.new_runtime()
            await runtimes[project].build(sha)
            with pytest.raises(BuildError, match="another checkout's here, and the classic builder"):
                await rig.new_runtime(with_buildx=False)._images._build_with_sdk(
                    _archive(rig, sha, tmp_path), "x", {}, BuildInputs()
                )
        for project, word in projects.items():
            assert await runtimes[project].built() == {sha}
            assert _said_by(f"{project}-bot:{sha}", "cat", "/built-on") == word
    finally:
        for project in projects:
            docker("rmi", "--force", f"{project}-bot:{sha}", f"{project}-bot:base", check=False)


def _said_by(*arguments: str) -> str:
    """What a command in an image prints, out of its log: `docker run` may miss the words of one that ends at once."""
    container = docker("create", *arguments)
    try:
        docker("start", container)
        docker("wait", container)
        return docker("logs", container)
    finally:
        docker("rm", "--force", container, check=False)


def _archive(rig: Rig, sha: str, folder: Path) -> Path:
    """A commit's files as a build is given them."""
    rig.git("archive", f"--output={folder / 'commit.tar'}", sha)
    return folder / "commit.tar"


def test_everything_that_compose_makes_has_the_projects_name() -> None:
    """Images of its own, networks and volumes: two checkouts with two names have nothing in common on the Engine."""
    for files in ("compose.yaml", "compose.yaml:compose.desktop.yaml"):
        environment = {**os.environ, "COMPOSE_PROJECT_NAME": "ns-other", "COMPOSE_FILE": files}
        shown = subprocess.run(
            ["docker", "compose", "--profile", "*", "config", "--format=json"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        found = json.loads(shown.stdout)
        made = [service["image"] for service in found["services"].values() if "build" in service and "image" in service]
        made += [kind["name"] for kind in (*found["networks"].values(), *found["volumes"].values())]
        assert len(made) >= 4
        assert [name for name in made if not name.startswith("ns-other")] == []
        assert not any("container_name" in service for service in found["services"].values())


async def test_an_image_and_a_container_removed_by_hand(rig: Rig) -> None:
    """A removed image counts as not built and is made again; a removed container is no unit any more."""
    sha = rig.commit()
    unit = await rig.started(sha)
    docker("rmi", "--force", f"never-sleeps-bot:{sha}")
    assert sha not in await rig.runtime.built()
    assert [known.running for known in await rig.runtime.units()] == [True]
    await rig.runtime.build(sha)
    docker("rm", "--force", unit)
    assert await rig.names() == []
    for harmless in (rig.runtime.stop(unit), rig.runtime.kill(unit), rig.runtime.remove(unit)):
        await harmless
    assert await rig.started(sha) != unit


async def test_stop_is_a_sigterm_and_is_known_to_the_next_deployer(rig: Rig) -> None:
    """A stopped unit had its signal, counts as stopped for a runtime that starts anew, and its log is kept when it is removed."""
    unit = await rig.started(rig.commit())
    with pytest.raises(RuntimeFailedError, match="still runs"):
        await rig.runtime.remove(unit)
    await rig.runtime.stop(unit)
    await rig.until(unit, lambda found: found.stopping)
    rig.runtime = rig.new_runtime()
    ended = await rig.until(unit, lambda found: not found.running)
    assert ended.stopping
    await rig.runtime.remove(unit)
    assert await rig.names() == []
    assert await rig.runtime.logs(unit, 2) == "began\ntold to stop"
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={unit}")


async def test_kill_ends_a_paused_container_and_counts_as_a_death(rig: Rig) -> None:
    """SIGKILL reaches a paused bot at once; nobody asked it to stop, and the Engine does not start it again."""
    unit = await rig.started(rig.commit())
    docker("pause", unit)
    await rig.until(unit, lambda found: found.running)
    await rig.runtime.kill(unit)
    ended = await rig.until(unit, lambda found: not found.running)
    assert not ended.stopping
    assert inspect(unit)["RestartCount"] == 0
    await rig.runtime.kill(unit)


async def test_the_engine_tells_of_a_death_and_is_not_asked_in_between(rig: Rig) -> None:
    """While events come, looking again and again asks the Engine once; a container that dies is told at once and then seen."""
    unit = await rig.started(rig.commit())
    told, asked = asyncio.Event(), 0
    call = rig.runtime._engine.call

    async def counted(what: str, method: Callable[[Any], Any]) -> Any:
        nonlocal asked
        asked += 1
        return await call(what, method)

    watching = asyncio.create_task(rig.runtime.watch(told.set))
    async with patience.timeout(LIMIT_S):
        await told.wait()  # the stream has begun
        await rig.runtime.units()
        rig.runtime._engine.call = counted  # type: ignore[method-assign]
        for _ in range(20):
            assert [known.running for known in await rig.runtime.units()] == [True]
        assert asked <= 3  # not 20; the list may have become old, or a late event have come
        told.clear()
        docker("kill", unit)
        await told.wait()
    await rig.until(unit, lambda found: not found.running)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not rig.runtime._events.live


async def test_a_new_deployer_adopts_what_runs(rig: Rig) -> None:
    """Labels tell a runtime that starts anew everything that the former one knew."""
    sha = rig.commit()
    first, second = await rig.started(sha), await rig.started(sha, "green")
    before = await rig.runtime.units()
    rig.runtime = rig.new_runtime()
    after = await rig.runtime.units()
    assert after == before
    assert [(unit.name, unit.color, unit.sha, unit.deploy_id) for unit in after] == [
        (first, "blue", sha, "deploy-1"),
        (second, "green", sha, "deploy-1"),
    ]
    assert rig.warnings == []


async def test_what_a_dead_deployer_made_and_never_started_is_removed(rig: Rig) -> None:
    """A container that was created and not started is no unit, and is gone after the first look."""
    sha = rig.commit()
    unit = await rig.started(sha)
    labels = inspect(unit)["Config"]["Labels"]
    options = [f"--label={name}={value}" for name, value in labels.items()]
    left = docker("create", *options, labels[IMAGE])
    assert await rig.names() == [unit]
    assert not docker("ps", "--all", "--quiet", "--filter", f"id={left}")


async def test_strangers_with_our_labels_are_reported_and_left_alone(rig: Rig) -> None:
    """Containers of another bus, with some of our labels, or with another image are no units; nothing of ours touches them."""
    sha = rig.commit()
    unit = await rig.started(sha)
    labels = inspect(unit)["Config"]["Labels"]

    def stranger(labels: dict[str, str], image: str = BASE) -> str:
        options = [f"--label={name}={value}" for name, value in labels.items()]
        network = f"--network={rig.place.network}"
        return docker("run", "--detach", network, *options, image, "sleep", "3600")

    few = stranger({BUS: rig.place.bus_id})
    unknown = stranger(labels)
    elsewhere = stranger({**labels, BUS: "/another/bus"})
    try:
        for _ in range(2):
            assert await rig.names() == [unit]
        assert len(rig.warnings) == 2, rig.warnings  # each once; another bus is nobody's concern here
        assert any("not never-sleeps.boot-id" in line for line in rig.warnings)
        assert any("it runs image sha256:" in line for line in rig.warnings)
        await rig.runtime.prune(frozenset())
        for name in (few, unknown, elsewhere):
            assert inspect(name)["State"]["Running"]
    finally:
        docker("rm", "--force", elsewhere)


async def test_a_unit_that_lacks_a_flag_is_said_once(rig: Rig) -> None:
    """Somebody loosens a running bot: a deployer that starts anew says so and lets it trade."""
    unit = await rig.started(rig.commit())
    docker("update", "--restart=always", unit)
    rig.runtime = rig.new_runtime()
    for _ in range(2):
        assert await rig.names() == [unit]
    assert len(rig.warnings) == 1
    assert "the Engine would restart it" in rig.warnings[0]


async def test_prune_keeps_what_is_needed(rig: Rig) -> None:
    """Of five images stay the one that runs, the one that rollback needs, and one of the newest; the others' tags are gone."""
    shas = []
    for number in range(5):
        shas.append(rig.commit(worker=f"print({number})" if number else WORKER))
        await rig.runtime.build(shas[-1])
    await rig.started(shas[0])
    await rig.runtime.prune(frozenset({shas[1]}))
    kept = await rig.runtime.built()
    assert kept > {shas[0], shas[1]}
    assert len(kept) == 3  # which is the newest the Engine knows to the second only


@pytest.mark.parametrize("with_buildx", [True, False], ids=["buildx", "classic"])
async def test_both_builders_build_and_say_why_they_cannot(rig: Rig, with_buildx: bool) -> None:
    """A good commit has an image with its labels; a broken one fails with the last words of its step."""
    rig.runtime = rig.new_runtime(with_buildx=with_buildx)
    good = rig.commit()
    await rig.runtime.build(good)
    assert await rig.runtime.built() == {good}
    broken = rig.commit(DOCKERFILE + "RUN python3 -m py_compile /worker.py\n", worker="def (:\n")
    with pytest.raises(BuildError, match="SyntaxError: invalid syntax") as caught:
        await rig.runtime.build(broken)
    assert "worker.py" in caught.value.output
    other_target = rig.commit(DOCKERFILE.replace("AS bot", "AS something"))
    with pytest.raises(BuildError, match="bot"):
        await rig.runtime.build(other_target)
    rig.git("rm", "--quiet", "Dockerfile")
    rig.git("commit", "--quiet", "-m", "no Dockerfile")
    with pytest.raises(BuildError, match="has no Dockerfile"):
        await rig.runtime.build(rig.git("rev-parse", "HEAD"))
    with pytest.raises(BuildError, match="could not be had from git"):
        await rig.runtime.build("0" * 40)
    assert await rig.runtime.built() == {good}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a full disk needs root")
async def test_a_full_disk_fails_the_build_with_its_reason(rig: Rig) -> None:
    """No room for the commit's archive: the build fails and says so, what runs is not touched, and it works with room again."""
    unit = await rig.started(rig.commit())
    (rig.repository / "big").write_bytes(secrets.token_bytes(200_000))
    sha, folder = rig.commit(), rig.folder / "run" / "builds"
    with _full_disk(folder):
        with pytest.raises(BuildError, match="No space left on device"):
            await rig.runtime.build(sha)
        assert not list(folder.glob("*.tar"))
        assert [(known.name, known.running) for known in await rig.runtime.units()] == [(unit, True)]
    await rig.runtime.build(sha)


@pytest.mark.parametrize("with_buildx", [True, False], ids=["buildx", "classic"])
async def test_a_cancelled_build_ends_at_the_engine(rig: Rig, with_buildx: bool) -> None:
    """When nobody waits for a build any more the Engine does not go on with it, and no image appears."""
    rig.runtime = rig.new_runtime(with_buildx=with_buildx)
    marker = f"echo {rig.folder.name}-{secrets.token_hex(4)}"
    sha = rig.commit(DOCKERFILE + f"RUN for i in $(seq 600); do {marker} $i; sleep 0.1; done\n")
    build = asyncio.create_task(rig.runtime.build(sha))

    async def until_seen(expected: bool) -> None:
        await asyncio.to_thread(until, "the build's process", lambda: (marker in _processes()) is expected)

    await until_seen(True)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await until_seen(False)
    assert await rig.runtime.built() == frozenset()


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


def _processes() -> str:
    return subprocess.run(["ps", "-eo", "args", "ww"], capture_output=True, text=True, check=True, timeout=10).stdout
