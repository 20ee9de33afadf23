"""Images of commits: built from what its sha names, by buildx where the plugin answers and else by the SDK's classic builder.

An image is found by its labels (the bus that it was built for, the commit) behind its tag; a tag that somebody moved to another
image counts for nothing. An image is never pulled.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deployer.errors import BuildError, EngineRefusedError, RepositoryError, StartError, TooLargeError
from deployer.push.repository import Repository
from deployer.runtimes.api import BuildInputs
from deployer.runtimes.build_limits import busy_words, tail
from deployer.runtimes.docker.body import BUS, COMPARE_LABEL, PROJECT, SHA
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.room import CPU_SHARES, BuildRoom
from deployer.words import MOST_LINES, explain

# What the Dockerfile of a repository of one's own is built on (deployer/own). Another project's is its own, though.
BASE = "never-sleeps-bot:base"
TARGET = "bot"
MAX_DOCKERFILE = 1 << 20
PLUGIN_LIMIT_S = 10.0


class Images:
    """The images of one bus. folder: for archives on their way to the Engine; emptied here, so only one deployer may use it.

    limit_s: for one build. inputs: reads what builds are given (build_inputs). project: Compose's name of this checkout: every
    tag begins with it, so two checkouts on one Engine never move each other's. room: where builds run, with their limits.
    """

    def __init__(
        self,
        engine: Engine,
        repository: Repository,
        folder: Path,
        bus_id: str,
        room: BuildRoom,
        *,
        limit_s: float,
        inputs: Callable[[], BuildInputs] = BuildInputs,
        project: str = PROJECT,
    ) -> None:
        self._name = f"{project}-bot"
        self.engine, self._repository, self.room, self._inputs = engine, repository, room, inputs
        self._folder, self._bus_id, self._limit_s = folder, bus_id, limit_s
        self._has_buildx: bool | None = None
        self._comparable: frozenset[str] = frozenset()
        self._labels: dict[str, frozenset[str]] = {}
        for left in folder.glob("*.tar") if folder.is_dir() else ():
            left.unlink()  # a deployer died in the middle

    async def by_sha(self) -> dict[str, str]:
        """The image ids of the commits that can be started. Raises RuntimeFailedError."""
        images = {sha: image for image in await self._list() if (sha := self._sha_of(image)) is not None}
        self._comparable = frozenset(sha for sha, image in images.items() if _label(image, COMPARE_LABEL))
        self._labels = {sha: frozenset(image.get("Labels") or ()) for sha, image in images.items()}
        return {sha: image["Id"] for sha, image in images.items()}

    def tag(self, sha: str) -> str:
        """What a commit's image is called."""
        return f"{self._name}:{sha}"

    def labels(self, sha: str) -> frozenset[str]:
        """The names of the labels of a commit's image, as of the last answer of `by_sha`."""
        return self._labels.get(sha, frozenset())

    def _sha_of(self, image: Mapping[str, Any]) -> str | None:
        """The commit of an image that still has its tag."""
        sha = _label(image, SHA)
        return sha if sha and self.tag(sha) in (image.get("RepoTags") or []) else None

    @property
    def _base(self) -> str:
        return f"{self._name}:base"

    @property
    def comparable(self) -> frozenset[str]:
        """Those of its last answer whose image declares that it knows the command `compare`."""
        return self._comparable

    async def build(self, sha: str) -> tuple[str, ...]:
        """Build a commit's image. Returns what is missing of the commit. Raises BuildError, RuntimeFailedError."""
        if sha in await self.by_sha():
            return ()
        remarks: tuple[str, ...] = ()
        tar = self._folder / f"{sha}.tar"
        try:
            async with asyncio.timeout(self._limit_s):
                self._folder.mkdir(parents=True, exist_ok=True)
                limits = self.room.limits
                writing = self._repository.tar(sha, tar, most_bytes=limits.size, most_files=limits.files)
                written = await limits.archived(writing, tar)
                remarks = tuple(written.lines())
                _check(tar, sha)
                labels = {SHA: sha, BUS: self._bus_id}
                inputs = self._inputs()
                build = self._build_with_buildx if await self._buildx_answers() else self._build_with_sdk
                try:
                    await build(tar, self.tag(sha), labels, inputs)
                except BuildError as error:
                    error = error.with_remarks(remarks)
                    if _NO_ROOM not in str(error).lower():
                        raise error from None
                    await self.empty_cache()  # what this build left there would fail every later one, too
                    raise BuildError(
                        f"{error}; the Engine's disk is full: its build cache was emptied, "
                        "make room where `docker system df` shows it, and deploy again",
                        error.output,
                    ) from error
        except TimeoutError as error:
            # What others have of the processor cannot be counted in the Engine's builds, so a busy machine is one more try.
            busy = busy_words(os.getloadavg()[0], os.cpu_count() or 1)
            text = f"the build was not ready within {self._limit_s:g} s (DEPLOYER_BUILD_LIMIT){busy}"
            raise BuildError(text, interrupted=bool(busy)) from error
        except StartError as error:
            raise BuildError(str(error)) from error
        except TooLargeError as error:
            raise BuildError(self.room.limits.too_large()) from error
        except RepositoryError as error:
            raise BuildError(f"the commit's files could not be had from git: {error}") from error
        except OSError as error:
            raise BuildError(f"the build could not write or run something: {error}") from error
        finally:
            tar.unlink(missing_ok=True)
        if sha not in await self.by_sha():
            raise BuildError(f"the build ended well, but the Engine shows no image {self.tag(sha)} with its labels")
        return remarks

    async def prune(self, keep: frozenset[str], newest: int) -> None:
        """Remove all images of this bus but those of `keep`, the newest few, and what a container uses."""
        others = [image for image in await self._list() if _label(image, SHA) not in keep]
        shas: set[str] = set()
        for image in others:
            sha = self._sha_of(image)  # None: its tag was moved, nothing finds it any more
            if sha is not None and len(shas) < newest:
                shas.add(sha)
                continue
            with suppress(EngineRefusedError):  # 409: a container or another image needs it; 404: it is gone
                await self.engine.call("an old image could not be removed", _remove(image))

    async def _list(self) -> list[dict[str, Any]]:
        filters = {"label": [f"{BUS}={self._bus_id}"]}
        images = await self.engine.call("the images could not be listed", lambda client: client.images(filters=filters))
        return sorted(images, key=lambda image: int(image["Created"]), reverse=True)

    async def empty_cache(self) -> None:
        """Empty the Engine's build cache, which is everybody's on this Engine. Raises RuntimeFailedError."""
        await self.engine.call("the build cache could not be emptied", lambda client: client.prune_builds(all=True))

    # --- the two builders

    async def _buildx_answers(self) -> bool:
        if self._has_buildx is None:
            try:
                process = await asyncio.create_subprocess_exec(
                    "docker", "buildx", "version", env=self._environment(), stdin=_NULL, stdout=_NULL, stderr=_NULL
                )
                async with asyncio.timeout(PLUGIN_LIMIT_S):
                    self._has_buildx = await process.wait() == 0
            except (OSError, TimeoutError):
                self._has_buildx = False
        return self._has_buildx

    async def _build_with_buildx(self, tar: Path, tag: str, labels: Mapping[str, str], inputs: BuildInputs) -> None:
        with tar.open("rb") as context:
            process = await asyncio.create_subprocess_exec(
                *("docker", "buildx", "build", "--progress=plain", "--load", f"--target={TARGET}", f"--tag={tag}"),
                *(f"--label={name}={value}" for name, value in labels.items()),
                *((f"--cgroup-parent={self.room.cgroup}",) if self.room.cgroup else ()),
                *(f"--ulimit={name}={most}" for name, most in self._ulimits().items()),
                # Values from the environment and paths alone: everybody may read a process's command line.
                *(f"--build-arg={name}" for name in inputs.arguments),
                *((f"--build-context={BASE}=docker-image://{self._base}",) if self._base != BASE else ()),
                *(f"--secret=id={name},src={path}" for name, path in inputs.secrets.items()),
                "-",
                env={**inputs.arguments, **self._environment()},
                stdin=context,
                stdout=_NULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            assert process.stderr is not None, "it was asked for"
            try:
                said = await tail(process.stderr)
                await process.wait()
            finally:
                if process.returncode is None:  # cancelled, or out of time: the Engine ends the build with its client
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if process.returncode != 0:
            output = inputs.redact(said.decode("utf-8", "replace"))
            error = build_error(output.splitlines())
            # A client that was killed, or one whose Engine went away in the middle.
            error.interrupted = (process.returncode or 0) < 0 or any(word in output for word in _ENGINE_WENT)
            if self.room.cgroup is None or "cgroup" not in str(error):
                raise self._of_memory(error)
            self.room.give_up(str(error))  # an Engine that cannot place builds: better not limited than not built
            await self._build_with_buildx(tar, tag, labels, inputs)

    def _ulimits(self) -> dict[str, int]:
        """For each process of a build, besides the limits of its room."""
        return {"core": 0, "fsize": self.room.limits.size}

    def _of_memory(self, error: BuildError) -> BuildError:
        """The same, with what SIGKILL in the middle of a build means most often."""
        if _KILLED not in f"{error} {error.output}":
            return error
        most = f"builds have {self.room.limits.memory >> 20} MB of memory (DEPLOYER_BUILD_MEMORY)"
        return BuildError(
            f"{error}; it was killed, most likely for memory: {most}", error.output, interrupted=error.interrupted
        )

    async def _build_with_sdk(self, tar: Path, tag: str, labels: Mapping[str, str], inputs: BuildInputs) -> None:
        if inputs.secrets:
            raise BuildError(
                f"DEPLOYER_BUILD_SECRETS has {', '.join(inputs.secrets)}, and the classic builder would keep them in the image; "
                "install Docker's plugin buildx where the deployer runs, or unset DEPLOYER_BUILD_SECRETS"
            )
        if self._base != BASE and _names_base(tar):
            raise BuildError(
                f"its Dockerfile is built on {BASE}, which is another checkout's here, and the classic builder cannot put "
                f"{self._base} in its place; install Docker's plugin buildx where the deployer runs"
            )
        cancelled, memory = threading.Event(), self.room.limits.memory

        def build(client: Any) -> list[str]:
            """The output when it failed, else nothing."""
            lines: list[str] = []
            with tar.open("rb") as context:
                stream = client.build(
                    fileobj=context, custom_context=True, target=TARGET, tag=tag, labels=dict(labels),
                    buildargs=dict(inputs.arguments), rm=True, forcerm=True, decode=True,
                    container_limits={"cpushares": CPU_SHARES, "memory": memory, "memswap": memory},
                )  # fmt: skip
                for piece in stream:
                    lines += str(piece.get("stream", "")).splitlines()
                    if "error" in piece:
                        return [*lines, f"ERROR: {piece['error']}"]
                    if cancelled.is_set():
                        stream.close()  # the Engine ends the build with its client
                        return ["ERROR: cancelled"]
            return []

        try:
            output = await self.engine.call("the image could not be built", build)
        except EngineRefusedError as error:
            raise BuildError(str(error)) from error
        finally:
            cancelled.set()
        if output:
            raise build_error(output)

    def _environment(self) -> dict[str, str]:
        """Of the command line client: this Engine, its own builder, and no configuration of anybody's."""
        config = self._folder / "docker-config"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(config),
            "DOCKER_CONFIG": str(config),
            "DOCKER_HOST": self.engine.url,
            "BUILDX_BUILDER": "default",
        }


_NULL = asyncio.subprocess.DEVNULL
_COLORS = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder's, for what is written to stderr
_KILLED = "exit code: 137"
# The words of gRPC and of the command line client for an Engine that ended under them; taken from their sources, not tried.
_ENGINE_WENT = (
    *("code = Unavailable", "code = Canceled", "transport is closing", "error reading from server"),
    *("Cannot connect to the Docker daemon", "context canceled"),
)
_NO_ROOM = "no space left on device"
_COMMAND_FAILED = "returned a non-zero code"
_TIMED = re.compile(r"^#\d+ (?:\d+\.\d+(?: |$))?|^\d+\.\d+(?: |$)")


def build_error(output: Iterable[str]) -> BuildError:
    """The error for a failed build: what explains it in the failed step's words is the reason.

    output: of buildx in plain progress, which repeats the failed step between two rules, or of a classic build.
    """
    plain = [_COLORS.sub("", line).rstrip() for line in output]
    lines = [line for line in plain if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    rules = [place for place, line in enumerate(lines) if line == "------"]
    step: list[str] = []
    if len(rules) >= 2:
        step = lines[rules[-2] + 1 : rules[-1]]
    elif errors and _COMMAND_FAILED in errors[-1]:
        step = lines  # classic: what the command wrote stands right before the error
    said = [_TIMED.sub("", line).strip() for line in step]
    said = [line for line in said if line and not line.startswith(("> [", "--->", "Step ", "Removing", "ERROR"))]
    explained, shown = explain(said or [line.removeprefix("ERROR: ") for line in errors] or lines)
    text = f"the image could not be built: {explained or 'no output'}"
    return BuildError(text, "\n".join([*shown, *(errors[-1:] if said else ())][-MOST_LINES:]))


def _check(tar: Path, sha: str) -> None:
    """Raises BuildError where the commit has no Dockerfile: the builder's own words for it are hard to read."""
    with tarfile.open(tar) as archive:
        if "Dockerfile" not in archive.getnames():
            raise BuildError(
                f"the commit {sha[:7]} has no Dockerfile; expected one at the top of the repository, with a target {TARGET!r}"
            )


def _names_base(tar: Path) -> bool:
    with tarfile.open(tar) as archive:
        dockerfile = archive.extractfile("Dockerfile")
        return dockerfile is not None and BASE.encode() in dockerfile.read(MAX_DOCKERFILE)


def _label(image: Mapping[str, Any], name: str) -> str:
    return str((image.get("Labels") or {}).get(name, ""))


def _remove(image: Mapping[str, Any]) -> Any:
    return lambda client: client.remove_image(image["Id"])
