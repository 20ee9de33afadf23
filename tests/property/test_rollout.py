"""The rollout against a model of bots: whatever dies in between, it ends with one confirmed commit and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bus import Handover, Instance, InstanceView, Request, Role, Step
from bus.errors import Reason
from deployer.deploys import Deploy, History
from deployer.errors import Code
from deployer.push.unchanged import Same
from deployer.rollout.decide import MAX_SPENT_REQUESTS, decide
from deployer.rollout.differences import Compared, not_compared
from deployer.rollout.interruption import MOST as MOST_INTERRUPTIONS
from deployer.rollout.interruption import interruption
from deployer.rollout.observed import (
    Action,
    Asked,
    Build,
    Compare,
    Forget,
    KillUnit,
    Now,
    Observed,
    Policy,
    Record,
    RemoveRequest,
    RemoveUnit,
    StartUnit,
    StopUnit,
    WriteHandover,
    timers,
)
from deployer.rollout.observer import Since
from deployer.runtimes.api import Unit
from ledger import Epoch

INTERVAL_MS = 200
BOOT = "boot"
SPARES = 1
COMPARISONS = {  # what comes of the comparison of a commit that knows the command, and after how many rounds
    "same": (Compared("1 poll replayed, 0 decisions differ", False, {}), 2),
    "differs": (Compared("1 poll replayed, 1 decision differs", True, {}), 2),
    "fails": (not_compared("it ended"), 1),
    "slow": (not_compared("it did not end in time"), 40),
}
KINDS = (
    "good",
    "good",
    "good",
    "no-build",
    "dies",
    "sick",
    "dies-active",
    "sick-active",
    "hangs-active",
    "never-yields",
)


@dataclass
class Bot:
    """One process of the model."""

    unit: Unit
    kind: str
    document: Instance
    alive: bool = True
    still_ms: int = 0
    history: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.document.id

    def say(self, **changes: object) -> None:
        self.document = self.document.model_copy(update=changes)


class World(RuleBasedStateMachine):
    """Git, bus, bots and a deployer that may be killed between any two actions."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy(confirm_polls=3, spares=SPARES, healthy_timeout_ms=4_000, stuck_after_ms=2_000)
        self.boot_ms, self.names = 1_000_000, 0
        self.kinds: dict[str, str] = {}
        self.files: dict[str, int] = {}  # of a commit; equal ones change nothing that runs
        self.outcomes: dict[str, str] = {}  # of comparisons; a commit that is not in it does not know the command
        self.tip = ""
        self.history = History()
        self.handover = Handover()
        self.requests: list[Request] = []
        self.bots: list[Bot] = []
        self.epochs: list[Epoch] = []
        self.spent: set[str] = set()
        self.built: set[str] = set()
        # Commits whose candidate the test killed or passed over too often, or that somebody asked about.
        self.wronged: set[str] = set()
        self.passed_over: Counter[str] = Counter()  # by instance: how often a lease yielded to it went to another
        self.forget_memory()

    def forget_memory(self) -> None:
        """What a deployer loses when it is killed."""
        self.failures: dict[str, Reason] = {}
        self.same: dict[str, Same] = {}
        self.building: Build | None = None
        self.compared: dict[str, Compared] = {}
        self.comparing: dict[str, int] = {}  # by deploy, how many rounds it takes yet
        self.since = Since()

    # --- what happens

    @initialize(hold=st.booleans())
    def first_commit(self, hold: bool) -> None:
        self.policy = replace(self.policy, hold=hold)
        self.commit("good", "same")

    @rule(kind=st.sampled_from(KINDS), outcome=st.sampled_from([*COMPARISONS, "absent"]))
    def commit(self, kind: str, outcome: str) -> None:
        self.names += 1
        self.tip = f"{self.names:07x}".ljust(40, "0")
        self.kinds[self.tip], self.files[self.tip] = kind, self.names
        if outcome != "absent":
            self.outcomes[self.tip] = outcome

    @rule(which=st.integers(0, 5))
    def commit_the_same(self, which: int) -> None:
        """Documents alone on top of some commit, or the revert of what came after it."""
        like = list(self.kinds)[-1 - which % len(self.kinds)]
        self.commit(self.kinds[like], self.outcomes.get(like, "absent"))
        self.files[self.tip] = self.files[like]

    @rule(which=st.integers(0, 5))
    def rewind(self, which: int) -> None:
        shas = list(self.kinds)
        self.tip = shas[-1 - which % len(shas)]
        self.wronged.add(self.tip)

    @rule(
        action=st.sampled_from(["deploy", "rollback", "cancel", "approve"]),
        which=st.integers(0, 5),
        named=st.booleans(),
        now=st.booleans(),
    )
    def ask(self, action: str, which: int, named: bool, now: bool) -> None:
        shas = list(self.kinds)
        ref = shas[-1 - which % len(shas)] if named or action == "deploy" else ""
        self.names += 1
        request = {"id": f"request-{self.names}", "action": action, "ref": ref, "now": now, "by": "somebody"}
        self.requests.append(Request.model_validate(request))
        if action != "approve":
            self.wronged.update(shas)

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: any(bot.alive for bot in self.bots))
    def kill_bot(self, which: int) -> None:
        living = [bot for bot in self.bots if bot.alive]
        victim = living[which % len(living)]
        victim.alive = False
        self.wronged.add(victim.unit.sha)

    @rule(cut=st.integers(0, 3))
    def deployer_dies_in_between(self, cut: int) -> None:
        for action in self.decide()[:cut]:
            self.perform(action)
        self.forget_memory()

    @rule(left=st.booleans(), cut=st.booleans())
    def everything_ends(self, left: bool, cut: bool) -> None:
        """`./ns stop` removes what it ended, a power cut leaves it. Then a deployer starts, and again if that is cut off."""
        for bot in self.bots:
            bot.alive = False
        if not left:
            self.bots.clear()
        self.forget_memory()
        for last in (False, True) if cut else (True,):
            found = interruption(self.history, [replace(bot.unit, running=bot.alive) for bot in self.bots])
            if found is None:
                return
            for name in found.gone:
                self.bots.remove(self.bot(name))
            if last:
                assert found.step == "interrupted" or len(found.deploy.steps) > MOST_INTERRUPTIONS
                if found.step == "failed":
                    self.wronged.add(found.deploy.sha)
                self.perform(Record(found.deploy.id, found.step, found.text, found.deploy.sha))

    @rule(rounds=st.integers(1, 8), lucky=st.integers(0, 3))
    def time_passes(self, rounds: int, lucky: int) -> None:
        for _ in range(rounds):
            self.live(lucky)
            self.deployer_acts()

    def deployer_acts(self) -> None:
        for action in self.decide():
            self.perform(action)
        self.deployer_acts_beside()

    def deployer_acts_beside(self) -> None:
        """Its builds and comparisons."""
        if self.building is not None:
            (sha, base), self.building = (self.building.sha, self.building.base), None
            if base and self.files[base] == self.files[sha]:
                self.same[sha] = Same(base)
            elif self.kinds[sha] == "no-build":
                self.failures[sha] = Reason(Code.BUILD, "the build failed: on purpose")
            else:
                self.built.add(sha)
        for deploy_id, rounds in list(self.comparing.items()):
            deploy = self.history.find(deploy_id)
            assert deploy is not None
            if rounds == 0 or deploy.verdict not in (None, "confirmed"):
                del self.comparing[deploy_id]
                if rounds == 0:
                    self.compared[deploy_id] = COMPARISONS[self.outcomes[deploy.sha]][0]
            else:
                self.comparing[deploy_id] = rounds - 1

    # --- the deployer's eyes and hands

    def now(self) -> Now:
        return Now(self.boot_ms, BOOT, 1_700_000_000_000 + self.boot_ms)

    def decide(self) -> tuple[Action, ...]:
        self.boot_ms += 10
        asked = tuple(Asked(r.id, r, r.ref or None) for r in self.requests)
        seen = Observed(
            history=self.history,
            target=self.tip,
            branch="main",
            requests=asked,
            built=frozenset(self.built),
            failures=self.failures,
            same=self.same,
            comparable=frozenset(self.built & self.outcomes.keys()),
            compared=dict(self.compared),
            busy=frozenset(
                [
                    *([f"build:{self.building.sha}"] if self.building else ()),
                    *(f"compare:{id_}" for id_ in self.comparing),
                ]
            ),
            units=tuple(replace(bot.unit, running=bot.alive) for bot in self.bots),
            instances=tuple(InstanceView(bot.id, bot.alive, bot.document, 1) for bot in self.bots if bot.alive),
            still_ms={bot.id: bot.still_ms for bot in self.bots},
            newest=self.epochs[-1] if self.epochs else None,
            spent=frozenset(self.spent),
            interval_ms=INTERVAL_MS,
            handover=self.handover,
        )
        seen = replace(seen, since_ms=self.since.note(timers(seen), self.boot_ms))
        return decide(seen, self.now(), self.policy)

    def perform(self, action: Action) -> None:
        match action:
            case Record():
                self.check(action)
                step = Step(
                    deploy=action.deploy, step=action.step, time_ms=self.now().wall_ms, sha=action.sha, by=action.by,
                    text=action.text, request=action.request, instance=action.instance, data=dict(action.data),
                )  # fmt: skip
                self.history = self.history.with_step(step)
                if action.step == "queued":
                    self.failures.pop(action.sha, None)
                    self.same.clear()
                if action.step == "compared":
                    self.compared.pop(action.deploy, None)
            case RemoveRequest(id=request):
                self.requests = [r for r in self.requests if r.id != request]
            case Build():
                self.building = action
            case Compare(deploy=deploy, sha=sha):
                open_one = self.history.open
                assert open_one is not None
                assert (open_one.id, open_one.has("started")) == (deploy, True), "compared beside no warm-up"
                assert deploy not in self.comparing, "compared twice at once"
                self.comparing[deploy] = COMPARISONS[self.outcomes[sha]][1]
            case StartUnit(what=what):
                confirmed = {d.id for d in self.history.deploys if d.verdict == "confirmed"}
                others = [
                    b for b in self.bots if b.alive and b.unit.deploy_id not in confirmed and b is not self.holder()
                ]
                assert what.deploy_id in confirmed or not others, "two candidates at once"
                assert what.sha in self.built
                self.start(what.sha, what.color, what.deploy_id)
            case WriteHandover(handover=handover):
                holder = self.holder()
                assert holder is None or holder.id not in handover.retired, "the lease holder was retired"
                self.handover = handover
            case StopUnit(unit=name):
                bot = self.bot(name)
                assert bot is not self.holder(), "the lease holder was stopped"
                bot.unit = replace(bot.unit, stopping=True)
            case KillUnit(unit=name):
                bot = self.bot(name)
                assert bot.unit.stopping or bot.kind != "good", f"a good bot was killed: {action}"
                bot.alive = False
            case RemoveUnit(unit=name):
                assert not self.bot(name).alive
                self.bots.remove(self.bot(name))
            case Forget():
                raise AssertionError("the model shows no dead instances")

    def check(self, action: Record) -> None:
        """Nothing is handed over that is to be held; nobody is held, or compared twice, who is not to be."""
        deploy = self.history.find(action.deploy)
        if action.step == "compared":
            assert deploy is not None
            assert not deploy.has("compared"), "told twice"
        if action.data.get("unchanged"):
            confirmed = self.history.confirmed
            assert deploy is not None
            assert confirmed is not None
            assert self.files[confirmed.sha] == self.files[action.sha], "left out although it changes what runs"
            assert deploy.cause == "branch", "a person asked for it by name"
            assert not deploy.has("started"), "left out although it was started"
        if action.step == "held":
            assert self.policy.hold
            assert self.outcomes.get(action.sha) not in (None, "same")
        if action.step == "handover" and self.policy.hold and action.sha in self.outcomes and self.history.confirmed:
            assert deploy is not None
            same = self.outcomes[action.sha] == "same" and deploy.has("compared")
            assert same or deploy.is_hurried or deploy.has("approved"), "handed over though it was to be held"

    def start(self, sha: str, color: str, deploy_id: str) -> None:
        self.names += 1
        name = f"bot-{self.names}"
        unit = Unit(name, sha, color, deploy_id, self.boot_ms, running=True, stopping=False)
        document = Instance(
            id=f"instance-{self.names}", role=Role.WARMING, color=color, sha=sha, unit=name, deploy_id=deploy_id
        )
        self.bots.append(Bot(unit, self.kinds[sha], document))

    def bot(self, name: str) -> Bot:
        return next(bot for bot in self.bots if bot.unit.name == name)

    # --- the bots

    def holder(self) -> Bot | None:
        if not self.epochs or self.epochs[-1].released:
            return None
        return next((bot for bot in self.bots if bot.alive and bot.id == self.epochs[-1].instance), None)

    def live(self, lucky: int) -> None:
        """One interval of everybody's life; `lucky` picks who gets a free lease."""
        self.boot_ms += INTERVAL_MS
        yielded = None
        for bot in [bot for bot in self.bots if bot.alive]:
            if bot.kind == "hangs-active" and bot is self.holder():
                bot.still_ms += INTERVAL_MS
            elif bot.unit.stopping or bot.kind == "dies":
                if bot is self.holder():
                    self.release("")
                bot.alive = False
            elif bot is self.holder():
                yielded = self.poll(bot) or yielded
            elif bot.document.role is Role.WARMING:
                if bot.kind != "sick":
                    bot.say(role=Role.STANDBY, healthy=True)
            elif bot.id in self.handover.retired:
                bot.say(role=Role.RETIRED)
        if self.holder() is None:
            self.take(yielded, lucky)
            self.note_passed_over(yielded)

    def poll(self, bot: Bot) -> Bot | None:
        """An active poll; returns the bot if it yielded after it."""
        if bot.kind == "dies-active":
            bot.alive = False
            return None
        sick = bot.kind == "sick-active"
        bot.say(
            last_tick=self.boot_ms,
            active_healthy=0 if sick else bot.document.active_healthy + 1,
            active_unhealthy=bot.document.active_unhealthy + 1 if sick else 0,
        )
        wanted = next((b for b in self.bots if b.alive and b.id == self.handover.wanted), None)
        in_force = self.boot_ms < self.handover.expires_boot_ms and self.handover.request_id not in self.spent
        if not in_force or wanted is None or wanted is bot or not wanted.document.healthy or bot.kind == "never-yields":
            return None
        self.release(self.handover.request_id)
        bot.say(role=Role.STANDBY, epoch=None)
        return bot

    def release(self, request: str) -> None:
        self.epochs[-1] = replace(self.epochs[-1], released=True)
        self.spent.add(request)

    def take(self, yielded: Bot | None, lucky: int) -> None:
        def preference(bot: Bot) -> int:
            if bot.id == self.handover.wanted:
                return 0
            return 3 if bot is yielded else 1 if bot.unit.sha == self.handover.confirmed_sha else 2

        able = [
            bot
            for bot in self.bots
            if bot.alive and bot.document.healthy and not bot.unit.stopping and bot.id not in self.handover.retired
        ]
        if not able:
            return
        bot = sorted(able, key=preference)[lucky % len(able)]
        number = len(self.epochs) + 1
        self.epochs.append(Epoch(number, bot.id, bot.unit.sha, bot.unit.color, "", 0, 0, BOOT, released=False))
        bot.say(role=Role.ACTIVE, epoch=number, active_healthy=0, active_unhealthy=0)

    def note_passed_over(self, yielded: Bot | None) -> None:
        """Each such handover costs ticks, so a candidate that lost two of them is given up, good or not."""
        wanted = next((bot for bot in self.bots if bot.alive and bot.id == self.handover.wanted), None)
        if yielded is None or wanted is None or wanted is self.holder():
            return
        self.passed_over[wanted.id] += 1
        if self.passed_over[wanted.id] >= MAX_SPENT_REQUESTS:
            self.wronged.add(wanted.unit.sha)

    # --- what must hold

    @invariant()
    def one_open_deploy(self) -> None:
        assert sum(deploy.verdict is None for deploy in self.history.deploys) <= 1

    @invariant()
    def bounded(self) -> None:
        assert sum(bot.alive for bot in self.bots) <= 3 * (1 + SPARES) + 2

    def teardown(self) -> None:
        """With fair progress everything ends with one confirmed commit, its spares, and nothing else."""
        for _ in range(2_000):
            if self.history.open is not None and self.history.open.is_held and not self.requests:
                self.ask("approve", 0, named=False, now=False)
            self.live(0)
            self.deployer_acts()
            if self.is_settled():
                break
        assert self.is_settled(), self.describe()
        if self.kinds.get(self.tip) == "good" and self.tip not in self.wronged:
            confirmed = self.history.confirmed
            assert confirmed is not None, self.describe()
            assert self.files[confirmed.sha] == self.files[self.tip], self.describe()
            assert all(step.step != "started" for d in self.unchanged() for step in d.steps), self.describe()

    def unchanged(self) -> list[Deploy]:
        return [deploy for deploy in self.history.deploys if deploy.verdict == "unchanged"]

    def is_settled(self) -> bool:
        if not self.tip:
            return True
        living = [bot for bot in self.bots if bot.alive]
        confirmed = self.history.confirmed
        known = {deploy.sha for deploy in (confirmed, self.history.open) if deploy is not None}
        if self.requests or self.tip not in known | {self.history.last_tip}:
            return False
        if confirmed is None:  # nothing to go back to: what trades goes on, nothing else runs
            open_one = self.history.open
            sick = open_one is None or self.kinds[open_one.sha] != "good"
            return sick and living == [bot for bot in [self.holder()] if bot]
        if self.history.open is not None:
            return False
        holder = self.holder()
        return (
            holder is not None
            and len(living) == 1 + SPARES
            and all(bot.unit.sha == confirmed.sha and bot.document.healthy for bot in living)
            and not set(self.handover.retired) & {bot.id for bot in living}
        )

    def describe(self) -> str:
        steps = [f"{d.id[-7:]} {d.verdict}: {[s.step for s in d.steps]}" for d in self.history.deploys]
        bots = [
            f"{b.unit.name} {b.unit.sha[:7]} {b.kind} {b.document.role} {b.unit.stopping}" for b in self.bots if b.alive
        ]
        return "\n".join([*steps, *bots, str(self.handover), str(self.epochs[-2:]), f"tip {self.tip[:7]}"])


World.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRollout = World.TestCase
TestRollout.__doc__ = "Whatever is committed, asked for, or dies, the rollout never stops the holder and ends in order."


def test_a_good_candidate_that_is_passed_over_twice_is_given_up() -> None:
    """A lease that is yielded to a candidate and taken by another costs ticks: the second time its deploy fails, however good it
    is, and the former commit trades on with its spare."""
    world = World()
    world.first_commit(hold=False)
    world.time_passes(8, 0)
    world.commit("good", "absent")
    world.time_passes(16, 1)  # another standby is quicker each time
    deploy = world.history.deploys[-1]
    assert (deploy.sha, deploy.why) == (world.tip, "green did not take the lease that was yielded to it")
    world.teardown()
    assert world.history.confirmed is world.history.deploys[0]


def test_a_version_that_never_yields_is_killed_after_two_expired_requests() -> None:
    """It was confirmed, so it has a spare of its kind; a rollback ends it all the same, and the version before trades."""
    world = World()
    world.first_commit(hold=False)
    world.time_passes(8, 0)
    good = world.tip
    world.commit("never-yields", "absent")
    world.time_passes(30, 0)
    assert world.history.confirmed is not None
    assert world.history.confirmed.sha == world.tip
    world.ask("rollback", 0, named=False, now=False)
    began_ms = world.boot_ms
    while world.history.confirmed.sha != good:
        assert world.boot_ms - began_ms < 80_000, world.describe()
        world.time_passes(1, 0)
    asked = world.history.deploys[-1].handovers
    assert len(asked) == 3, "two that expired, and one for the candidate to be first"
    world.wronged.add(world.tip)
    world.teardown()
