"""Carries out control's manual actions under one epoch, each id at most once (what to do: `manual`).

The intent of a manual order has the action's id, so that it is found again whoever died where; the final answer is
a row, after which nothing more is done about the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bot.operator.manual_rules import Ordered, Verdict, judge
from bot.orders.manager import OrderManager
from bot.reasons import ReasonCode
from bot.strategy.evaluation import Evaluation
from bus import Control, LedgerFullError, Log, ManualAction, ManualStatus
from ledger import Ledger
from ledger.rows import manual_intents
from ledger.schema import COUNTED

MOST = 200
Act = Callable[[Evaluation], Evaluation]


class ManualOrders:
    """One epoch's manual actions. Its methods raise LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        ledger: Ledger,
        epoch: int,
        *,
        desk: OrderManager,
        now_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        log: Log,
    ) -> None:
        self._ledger, self._epoch, self._desk, self._log = ledger, epoch, desk, log
        self._now_ms, self._wall_ms = now_ms, wall_ms
        self._verdicts: dict[str, Verdict] = {}
        self._instead: dict[str, Evaluation] = {}

    def act(self, evaluations: Iterable[Evaluation], control: Control | None, act: Act) -> list[Evaluation]:
        """Do what was decided for each slot: what a manual action wants there now, else what the strategy wants.

        act: as for a decision of the strategy; risk is asked there.
        """
        changed = list(evaluations)
        places = {e.window.slug: index for index, e in enumerate(changed)}
        waiting: dict[int, tuple[ManualAction, Verdict]] = {}
        for action in self._standing(control):
            if self._verdict(action).final:
                continue
            index = places.get(action.window or "")
            verdict = self._judge(action, None if index is None else changed[index])
            if verdict.decision is None or index is None:
                self._note(action, verdict, control)
            elif index not in waiting:  # a second one for the same window waits for the first one's end
                waiting[index] = (action, verdict)
        self._instead = {changed[index].window.slug: changed[index] for index in waiting}
        return [
            self._order(e, *waiting[index], control, act) if index in waiting else act(e)
            for index, e in enumerate(changed)
        ]

    def as_the_strategy_decided(self, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
        """What `act` returned, for the record of inputs: another version is asked for the strategy's decisions, not people's."""
        return [self._instead.get(e.window.slug, e) for e in evaluations]

    def exits(self, control: Control | None) -> set[str]:
        """The windows in which nothing may be entered, because a person wants nothing held there."""
        return {action.window for action in self._standing(control) if action.action == "exit" and action.window}

    def status(self, control: Control | None) -> tuple[ManualStatus, ...]:
        """How far each action that stands in control has come."""
        return tuple(
            ManualStatus(id=action.id, state=verdict.state, text=verdict.text, code=verdict.code)
            for action in self._standing(control)
            for verdict in (self._verdict(action),)
        )

    def _standing(self, control: Control | None) -> Sequence[ManualAction]:
        return control.manual[-MOST:] if control else ()

    def _verdict(self, action: ManualAction) -> Verdict:
        """The last one; of an action that another epoch ended, out of the ledger."""
        verdict = self._verdicts.get(action.id)
        if verdict is None:
            rows = self._ledger.execute("SELECT done, answer FROM asks_answered WHERE id = ?", (action.id,))
            verdict = (
                Verdict("done" if rows[0][0] else "refused", str(rows[0][1]))
                if rows
                else Verdict("waiting", "not looked at yet")
            )
            self._verdicts[action.id] = verdict
        return verdict

    def _judge(self, action: ManualAction, e: Evaluation | None) -> Verdict:
        selling = e is not None and self._desk.is_selling(e.window.slug)
        entering = e is not None and self._desk.is_entering(e.slot.id, e.window.slug)
        return judge(action, e, self._ordered(action), busy=selling, entering=entering, now_ms=self._now_ms())

    def _ordered(self, action: ManualAction) -> Ordered:
        if action.window is None:
            return Ordered()
        rows = manual_intents(self._ledger, action.window, action.id)
        return Ordered(
            orders=len(rows),
            open=any(self._desk.is_awaited(order_id) for order_id, _, _ in rows),
            shares=sum(shares for _, shares, _ in rows),
            text=rows[-1][2] if rows else "",
            held=self._ledger.integer(
                "SELECT coalesce(sum(CASE f.side WHEN 'BUY' THEN f.size ELSE -f.size END), 0) FROM fills f "
                f"WHERE f.window = ? AND {COUNTED}",
                (action.window,),
            ),
        )

    def _order(
        self, e: Evaluation, action: ManualAction, verdict: Verdict, control: Control | None, act: Act
    ) -> Evaluation:
        assert verdict.decision is not None, "only what is to be ordered comes here"
        done = act(replace(e, decision=verdict.decision, manual=action.id))
        if done.decision.action != "none":
            self._note(action, Verdict("ordered", verdict.text), control)
        elif action.action == "enter" or done.decision.code is ReasonCode.SIZE:
            self._note(action, Verdict("refused", done.decision.reason), control)
        else:
            self._note(action, Verdict("waiting", done.decision.reason), control)
        return done

    def _note(self, action: ManualAction, verdict: Verdict, control: Control | None) -> None:
        if verdict != self._verdicts.get(action.id):
            say = self._log.info if verdict.state != "refused" else self._log.warning
            say(
                "manual_action",
                id=action.id,
                action=action.action,
                slot=action.slot,
                state=verdict.state,
                text=verdict.text,
            )
        if verdict.final:
            try:
                self._answer(action, verdict, control.by if control else "")
            except LedgerFullError:  # said by the poll itself; the answer is written when there is room
                verdict = Verdict("waiting", f"{verdict.text} (not recorded: the disk is full)")
        self._verdicts[action.id] = verdict

    def _answer(self, action: ManualAction, verdict: Verdict, who: str) -> None:
        self._ledger.execute(
            "INSERT INTO asks_answered(id, epoch, action, who, done, answer, wall_ms) VALUES (?,?,?,?,?,?,?)",
            (
                action.id,
                self._epoch,
                action.action,
                who,
                int(verdict.state == "done"),
                verdict.text[:500],
                self._wall_ms(),
            ),
        )
