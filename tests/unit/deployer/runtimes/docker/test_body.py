"""The create body of a bot's container and the check that refuses one that lacks a flag or asks for more."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deployer import Start, StartError
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.docker.body import (
    COMPARISON_LABELS,
    IMAGE,
    LABELS,
    Mount,
    Place,
    bot_body,
    comparison_body,
    faults_of_body,
    faults_of_comparison,
    faults_of_container,
)
from deployer.runtimes.docker.images import build_error
from deployer.runtimes.docker.one_off import own_container, place_of
from deployer.runtimes.docker.room import room_body

PLACE = Place(bus=Mount("bind", "/srv/bus"), network="net", user="1000:1000")
SHA = "a" * 40
INPUTS = "directives/compared/one"


def body(place: Place = PLACE, **environment: str) -> dict[str, Any]:
    """A body as the runtime makes it."""
    start = Start(SHA, "green", "deploy-1")
    return bot_body(start, "unit-1", "bot:1", "sha256:1", place, environment, boot_id="boot", boot_ms=7)


def test_a_build_weighs_a_sixteenth_of_a_bot_for_the_processor() -> None:
    """Nothing holds a build back in a snipe window: it gets what the trader leaves."""
    room = room_body("image", "bus", "/docker", BuildLimits())
    assert room["HostConfig"]["CpuShares"] * 16 == body()["HostConfig"]["CpuShares"]


def inspected() -> dict[str, Any]:
    """What the Engine would show of it."""
    made = body()
    host = made.pop("HostConfig")
    mounts = [{"Type": "bind", "Source": "/srv/bus", "Destination": "/bus"}]
    return {"Config": made, "HostConfig": host, "Mounts": mounts, "Image": "sha256:1"}


def test_the_body_that_the_runtime_makes_is_accepted() -> None:
    """What is asked for lacks nothing; what the Engine shows of it does not either."""
    assert faults_of_body(body(), PLACE) == ()
    assert faults_of_container(inspected(), PLACE) == ()


def host(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the host's part."""
    return lambda made: made["HostConfig"].update(changes)


CHANGES = {
    "root": lambda made: made.update(User="0:0"),
    "no user": lambda made: made.update(User=""),
    "another user": lambda made: made.update(User="1001:1001"),
    "no stop limit": lambda made: made.pop("StopTimeout"),
    "a label is missing": lambda made: made["Labels"].pop(IMAGE),
    "root file system": host(ReadonlyRootfs=False),
    "no tmpfs": host(Tmpfs={}),
    "tmpfs with exec": host(Tmpfs={"/tmp": "rw,nosuid"}),
    "another tmpfs": host(Tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777", "/var": ""}),
    "capabilities": host(CapDrop=[]),
    "some capabilities": host(CapDrop=["NET_RAW"]),
    "a capability more": host(CapAdd=["SYS_PTRACE"]),
    "new privileges": host(SecurityOpt=[]),
    "no seccomp": host(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "privileged": host(Privileged=True),
    "no memory limit": host(Memory=0),
    "swap": host(MemorySwap=-1),
    "no pids limit": host(PidsLimit=None),
    "no init": host(Init=False),
    "endless logs": host(LogConfig={"Type": "json-file", "Config": {}}),
    "no logs": host(LogConfig={"Type": "none"}),
    "restarts by itself": host(RestartPolicy={"Name": "always"}),
    "restarts unless stopped": host(RestartPolicy={"Name": "unless-stopped"}),
    "host network": host(NetworkMode="host"),
    "another network": host(NetworkMode="bridge"),
    "host pids": host(PidMode="host"),
    "host ipc": host(IpcMode="host"),
    "shared ipc": host(IpcMode="shareable"),
    "host names": host(UTSMode="host"),
    "host users": host(UsernsMode="host"),
    "host cgroups": host(CgroupnsMode="host"),
    "a device": host(Devices=[{"PathOnHost": "/dev/mem"}]),
    "a port": host(PortBindings={"80/tcp": [{"HostPort": "80"}]}),
    "all ports": host(PublishAllPorts=True),
    "the socket's group": host(GroupAdd=["999"]),
    "volumes of another": host(VolumesFrom=["deployer"]),
    "a bind": host(Binds=["/var/run/docker.sock:/var/run/docker.sock"]),
    "no bus": host(Mounts=[]),
    "another bus": host(Mounts=[{"Type": "bind", "Source": "/srv/other", "Target": "/bus"}]),
    "the socket": lambda made: made["HostConfig"]["Mounts"].append(
        {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/var/run/docker.sock"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_body_that_lacks_a_flag_or_asks_for_more_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """Each single deviation is found, in the body and in what the Engine shows."""
    made = copy.deepcopy(body())
    change(made)
    assert faults_of_body(made, PLACE)
    shown = {"Config": made, "HostConfig": made["HostConfig"], "Mounts": [], "Image": "sha256:1"}
    assert faults_of_container(shown, PLACE)


def test_what_only_the_engine_can_show_is_refused_too() -> None:
    """A volume that the image asks for, another image behind the tag, and unmasked kernel paths are found."""
    for part, value, said in (
        ("Mounts", [{"Destination": "/data", "Name": "anonymous"}], "anonymous at /data"),
        ("Image", "sha256:2", "sha256:2"),
        ("HostConfig", {**inspected()["HostConfig"], "MaskedPaths": []}, "not masked"),
    ):
        shown = {**inspected(), part: value}
        assert any(said in fault for fault in faults_of_container(shown, PLACE)), part


def test_a_bot_gets_its_own_settings_and_no_other_programs() -> None:
    """BOT_ and BUS_ settings are passed on, the bus is where it is mounted, and nothing else of the environment is."""
    made = body(BOT_POLL_INTERVAL="1", BUS_DIR="/elsewhere", BOT_COLOR="red", DEPLOYER_DIR="/data", SECRET="x")
    last = dict(entry.split("=", 1) for entry in made["Env"])
    assert last == {
        "BOT_POLL_INTERVAL": "1",
        "BUS_DIR": "/bus",
        "BOT_COLOR": "green",
        "BOT_SHA": SHA,
        "BOT_UNIT": "unit-1",
        "BOT_DEPLOY_ID": "deploy-1",
    }
    assert set(made["Labels"]) == LABELS


def test_the_configuration_label_tells_settings_apart_and_not_commits() -> None:
    """Two bots with the same settings have the same configuration label, whatever commit and color they are."""
    other = bot_body(Start("b" * 40, "blue", "x"), "u", "bot:2", "sha256:2", PLACE, {}, boot_id="b", boot_ms=9)
    config = "never-sleeps.config"
    assert body()["Labels"][config] == other["Labels"][config]
    assert body()["Labels"][config] != body(BOT_ASSETS="BTC")["Labels"][config]


KEYS = (("/keys/wallet", Mount("bind", "/srv/keys/wallet.key")),)


def test_the_named_secret_files_are_the_only_further_mounts_and_read_only() -> None:
    """The bot gets each file that is named, not writable; a writable one is refused, and so is the folder that it lies in."""
    place = Place(PLACE.bus, PLACE.network, PLACE.user, keys=KEYS)
    made = body(place)
    assert faults_of_body(made, place) == ()
    key = made["HostConfig"]["Mounts"][1]
    assert key == {"Type": "bind", "Source": "/srv/keys/wallet.key", "Target": "/keys/wallet", "ReadOnly": True}
    for change in ({"ReadOnly": False}, {"Source": "/srv/keys"}, {"Target": "/keys"}):
        made["HostConfig"]["Mounts"][1] = key | change
        assert faults_of_body(made, place)


@pytest.mark.parametrize("bus", [Mount("bind", "/srv/bus"), Mount("volume", "bus")])
def test_what_people_and_the_deployer_say_is_mounted_apart_and_read_only(bus: Mount) -> None:
    """A container that the Engine made without that mount, or with one that can be written to, is refused."""
    place = Place(bus, PLACE.network, PLACE.user, guarded=True)
    made = body(place)
    assert faults_of_body(made, place) == ()
    whole, part = made["HostConfig"]["Mounts"]
    assert (part["Target"], part["ReadOnly"]) == ("/bus/directives", True)
    for mounts in (
        [whole],
        [whole, part | {"ReadOnly": False}],
        [whole, whole | {"Target": part["Target"], "ReadOnly": True}],
    ):
        made["HostConfig"]["Mounts"] = mounts
        assert faults_of_body(made, place)


def comparison() -> dict[str, Any]:
    """What the Engine shows of a comparison's container."""
    place = Place(PLACE.bus, PLACE.network, PLACE.user, keys=KEYS)
    made = comparison_body(
        SHA, "b" * 40, "bot:1", "sha256:1", place, {"BOT_KEY_FILE": "/keys/k", "BOT_STRATEGY": "s"}, INPUTS
    )
    return {"Config": made, "HostConfig": made["HostConfig"], "Mounts": [], "Image": "sha256:1"}


def test_a_comparison_can_read_a_copy_of_the_inputs_and_nothing_else() -> None:
    """It is no unit, gets no key, no network and half a processor at most, sees nothing of the bus, and is refused when the
    Engine made it otherwise; in all else it is as bounded as a bot."""
    made = comparison()["Config"]
    assert made["Cmd"] == ["compare", "--json", "--by", "b" * 40]
    assert faults_of_comparison(comparison(), PLACE, INPUTS) == ()
    assert set(made["Labels"]) == COMPARISON_LABELS
    assert not any("KEY" in entry for entry in made["Env"])
    assert "BOT_STRATEGY=s" in made["Env"]
    assert made["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": f"/srv/bus/{INPUTS}", "Target": "/bus", "ReadOnly": True}
    ]
    for change in (
        host(Mounts=body()["HostConfig"]["Mounts"]),
        host(Mounts=[{"Type": "bind", "Source": "/srv/bus", "Target": "/bus", "ReadOnly": True}]),
        host(NetworkMode="net"),
        host(NanoCpus=2_000_000_000),
        host(NanoCpus=0),
        host(Memory=0),
        host(Privileged=True),
        lambda made: made.update(User="0:0"),
    ):
        shown = comparison()
        change(shown["Config"])
        assert faults_of_comparison(shown, PLACE, INPUTS)


CHOSEN = {
    "com.docker.compose.project": "never-sleeps",
    "com.docker.compose.service": "deployer",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.project.working_dir": "/",
    "never-sleeps.builds": "/srv/bus",
    "never-sleeps.compares-on": "/srv/bus",
    "never-sleeps.bus": "/srv/other",
}


def test_labels_that_a_commit_gives_its_image_make_no_service_of_a_bot() -> None:
    """By Compose's `docker compose exec deployer` would be carried out in the bot: they are emptied, else it is refused."""
    named = {**CHOSEN, "never-sleeps.compare": "1", "maintainer": "ann"}
    start = Start(SHA, "green", "deploy-1")
    made = bot_body(start, "u", "bot:1", "sha256:1", PLACE, {}, boot_id="b", boot_ms=7, image_labels=named)
    compared = comparison_body(SHA, "b" * 40, "bot:1", "sha256:1", PLACE, {}, INPUTS, named)
    for config, kept in ((made, LABELS), (compared, COMPARISON_LABELS)):

        def faults(
            labels: dict[str, str], config: dict[str, Any] = config, *, kept: frozenset[str] = kept
        ) -> tuple[str, ...]:
            """labels: as the Engine put them together."""
            shown = {"Config": config | {"Labels": labels}, "HostConfig": config["HostConfig"], "Image": "sha256:1"}
            return faults_of_container(shown, PLACE) if kept is LABELS else faults_of_comparison(shown, PLACE, INPUTS)

        labels = {**named, **config["Labels"]}
        assert {name for name, value in labels.items() if value} == kept | {"never-sleeps.compare", "maintainer"}
        assert faults(labels) == ()
        for name in set(CHOSEN) - kept:
            assert faults(labels | {name: CHOSEN[name]}), name


def deployer(**changes: Any) -> dict[str, Any]:
    """What inspect shows of a deployer's container, in short."""
    shown: dict[str, Any] = {
        "Config": {"User": "1000:1000"},
        "HostConfig": {"NetworkMode": "net"},
        "Mounts": [
            {"Type": "bind", "Source": "/srv/bus", "Destination": "/bus"},
            {"Type": "bind", "Source": "/srv/keys/wallet.key", "Destination": "/keys/wallet"},
            {"Type": "bind", "Source": "/srv/never-sleeps/.run/none", "Destination": "/keys/relayer"},
            {"Type": "volume", "Name": "secrets", "Source": "/var/lib/...", "Destination": "/secrets"},
        ],
    }
    return {**shown, **changes}


def test_the_place_for_bots_is_found_in_the_deployers_own_container() -> None:
    """Bus, network, user and the secret files that are named come out of what inspect shows; a folder is never passed on."""
    assert place_of(deployer(), {}) == Place(PLACE.bus, "net", "1000:1000", guarded=True)
    assert place_of(deployer(), {"BOT_KEY_FILE": "/keys/wallet", "BOT_RELAYER_KEY_FILE": ""}).keys == KEYS
    folder = deployer(
        Mounts=[*deployer()["Mounts"][:1], {"Type": "bind", "Source": "/srv/keys", "Destination": "/keys"}]
    )
    named = {"BOT_KEY_FILE": "/keys/wallet.key", "BOT_CREDENTIALS_FILE": "/keys/more/wallet.credentials"}
    assert [mount.source for _, mount in place_of(folder, named).keys] == [
        "/srv/keys/wallet.key",
        "/srv/keys/more/wallet.credentials",
    ], "a deployer that was given a folder passes on the files of it that are named"
    for elsewhere in ("/etc/wallet", "/secrets/wallet", "/keys/../keys/wallet", "wallet"):
        with pytest.raises(StartError, match="BOT_KEY_FILE"):
            place_of(deployer(), {"BOT_KEY_FILE": elsewhere})
    other = deployer(Config={"User": "1000:1000", "Labels": {"com.docker.compose.project": "other"}})
    assert place_of(other, {}).project == "other", "Compose's name of the checkout, for the tags of its images"


@pytest.mark.parametrize(
    "changes",
    [
        {"Mounts": []},
        {"Config": {"User": ""}},
        {"Config": {"User": "0:0"}},
        {"HostConfig": {"NetworkMode": "host"}},
        {"HostConfig": {"NetworkMode": "bridge"}},
    ],
)
def test_a_deployer_without_a_place_for_bots_says_so(changes: dict[str, Any]) -> None:
    """No bus, root, or no network of its own stop the start with one line."""
    with pytest.raises(StartError) as caught:
        place_of(deployer(**changes), {})
    assert "\n" not in str(caught.value)


def test_a_container_finds_its_own_id_in_its_mounts() -> None:
    """The Engine's three files name the container; a machine without a container names none."""
    own = "0123456789abcdef" * 4
    line = f"633 620 254:0 /var/lib/docker/containers/{own}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw"
    assert own_container(f"1 2 3:4 / / rw - ext4 /dev/vda rw\n{line}\n") == own
    assert own_container("1 2 3:4 / / rw - ext4 /dev/vda rw\n") is None


def test_the_reason_of_a_failed_build_is_what_its_step_said_last() -> None:
    """Out of buildx's plain progress, and out of a classic build's stream."""
    plain = """#11 [bot 3/4] RUN python -m compileall -q bot
#11 0.320 *** Error compiling 'bot/x.py'...
#11 ERROR: process "/bin/sh -c python" did not complete successfully: exit code: 1
------
 > [bot 3/4] RUN python -m compileall -q bot:
0.320 *** Error compiling 'bot/x.py'...
0.320 SyntaxError: '(' was never closed
0.320
------
Dockerfile:9
ERROR: failed to solve: process "/bin/sh -c python" did not complete successfully: exit code: 1"""
    error = build_error(plain.splitlines())
    assert str(error) == "the image could not be built: SyntaxError: '(' was never closed"
    assert "bot/x.py" in error.output
    classic = ["Step 2/3 : RUN python -m compileall -q bot", " ---> Running in 1", "SyntaxError: no"]
    failed = "ERROR: The command '/bin/sh -c python' returned a non-zero code: 1"
    assert str(build_error([*classic, failed])) == "the image could not be built: SyntaxError: no"
    assert str(build_error([*classic, "ERROR: no such target"])) == "the image could not be built: no such target"
    assert str(build_error(["ERROR: no space left on device"])).endswith("no space left on device")
    assert str(build_error([])).endswith("no output")
