"""The alerts: symptoms alone, each with what it means and what to do first. The rules and docs/runbook.md are made of this list.

severity: page wakes somebody up; look waits for the morning; none is the watchdog's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GROUP = "never-sleeps"
# Two scrapes: what an ordinary handover shows for one of them (nobody active, or both) must be over.
TWO_SCRAPES = "15s"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. wait: how long `expr` must hold, in Prometheus' words. summary: its first line, a template."""

    name: str
    expr: str
    wait: str
    severity: Literal["page", "look", "none"]
    summary: str
    means: str
    first: str


ALERTS = (
    Alert(
        "NoActiveBot",
        "absent(bot_active == 1)",
        TWO_SCRAPES,
        "page",
        "Nobody trades.",
        "No bot that Prometheus reaches holds the lease: all are dead or unhealthy, or nothing runs. A crash "
        "with a spare beside "
        "is over in a second and shows nothing here.",
        "`make status`. Where bots run and none is healthy, it says why not; `.run/deployer/logs/` or `docker "
        "logs` has their own "
        "words. Where none runs: is the deployer there (`make run`)? Open positions are exposed until somebody trades.",
    ),
    Alert(
        "TwoActiveBots",
        "count(bot_active == 1) > 1",
        TWO_SCRAPES,
        "page",
        "{{ $value }} bots say that they trade.",
        "More than one instance says that it holds the lease. The ledger fences all but the newest, so no order "
        "can leave twice; "
        "but one of them is stuck inside a call, or there are two buses on one account.",
        "`touch volumes/bus/halt` stops all entries. Then `make status`: one instance is the holder, kill the "
        "other's process or "
        "container. `make audit` says whether anything was written twice.",
    ),
    Alert(
        "TickStale",
        "time() - max(bot_tick_timestamp_seconds) > 3 * max(bot_poll_interval_seconds) + 5",
        "10s",
        "page",
        "The newest poll is {{ $value | humanizeDuration }} old.",
        "No tick was polled for three intervals and five seconds, whoever should have done it.",
        "As for NoActiveBot. Where an instance is active and does not poll, its event loop stands or the disk "
        "of the bus hangs: the "
        "deployer kills it after 6 s while its own write to the bus goes through.",
    ),
    Alert(
        "BotUnhealthy",
        "bot_active == 1 and on (instance) bot_healthy == 0",
        "1m",
        "page",
        "The bot that trades ({{ $labels.instance }}) has been unhealthy for a minute.",
        "The trader polls, but something that it needs is missing: a feed, the books, the account, control, "
        "room on the disk. "
        "Entries are closed or about to be.",
        "`cat volumes/bus/status.json` (entries) and `make status` give the reason in words. After a deploy: "
        "`python -m deployer "
        "rollback`.",
    ),
    Alert(
        "PollMissed",
        "never_sleeps:polls_missed - min_over_time(never_sleeps:polls_missed[10m]) > 0",
        "0s",
        "look",
        "{{ $value }} polls were missed in the last ten minutes.",
        "A tick has no completed poll. A handover and a crash with a spare beside cost none; a reboot, a full "
        "disk, a poll that "
        "took longer than its interval do.",
        "`make audit` names the ticks and the reason of each.",
    ),
    Alert(
        "HandoverSlow",
        'sum(increase(deployer_handover_gap_seconds_count{kind="handover"}[10m])) - '
        'sum(increase(deployer_handover_gap_seconds_bucket{kind="handover",le="1.0"}[10m])) > 0.5',
        "0s",
        "look",
        "A handover left the lease free for more than a second.",
        "Between the yield and the take nobody traded for more than a second; the usual is 10 to 40 ms. The "
        "named instance was "
        "not healthy any more, or the disk was slow.",
        "`python -m deployer history` shows the steps; the Machine dashboard, fsync and loop lag at that time.",
    ),
    Alert(
        "FsyncFailed",
        "max(bot_fsync_failed) > 0",
        "0s",
        "page",
        "An fsync failed on the bus; nobody trades until a person looked.",
        "The disk did not confirm a write. What was acknowledged may be lost, so nobody takes the lease while the mark is there.",
        "Look at the disk (`dmesg`, SMART). When it is sound, or the bus was moved to another: remove "
        "`volumes/bus/fsync-failed`, "
        "then `make audit`.",
    ),
    Alert(
        "OrderInDoubt",
        "never_sleeps:orders_in_doubt > 0",
        "5m",
        "look",
        "{{ $value }} orders have been in doubt for five minutes.",
        "It is not known whether an order arrived. Its worst case is reserved and its slot is blocked. It ends "
        "when the venue shows "
        "it, or when its window has closed.",
        "`python -m bot explain SLOT` shows its life. Compare with the venue's own page. Nothing has to be cancelled by hand.",
    ),
    Alert(
        "VersionMismatch",
        "(never_sleeps:trader unless on (git_sha) deployer_confirmed_info) and on () (max(deployer_deploy_open) == 0)",
        "2m",
        "look",
        "{{ $labels.git_sha }} trades, which is not the confirmed commit.",
        "No deploy is under way, and the bot that trades is not of the commit that the deployer confirmed: a "
        "take-back does not "
        "end, or somebody started a bot by hand.",
        "`make status` and `python -m deployer history`. The deployer asks the lease back as soon as a bot of "
        "the confirmed commit "
        "is healthy.",
    ),
    Alert(
        "NoSpare",
        "(sum(bot_healthy and on (instance) (bot_active == 0)) or vector(0)) < max(deployer_spares_wanted)",
        "5m",
        "look",
        "No healthy spare for five minutes.",
        "A crash of the trader would now cost polls until another bot is warm.",
        "`make status` says why the spare is not healthy; `.run/deployer/logs/` has its words.",
    ),
    Alert(
        "BotDied",
        "sum(increase(deployer_unit_deaths_total[15m])) > 0.5",
        "0s",
        "look",
        "A bot ended without being asked to.",
        "A crash, an OOM kill or a `kill -9`. It was replaced; a spare traded meanwhile.",
        "Its last words are in `.run/deployer/logs/NAME.log`; `dmesg` shows an OOM kill.",
    ),
    Alert(
        "BotKeepsDying",
        "sum(increase(deployer_unit_deaths_total[15m])) > 3.5",
        "0s",
        "page",
        "Bots died {{ $value | humanize }} times within a quarter of an hour.",
        "What runs cannot stay alive; each start waits longer.",
        "`python -m deployer rollback`, then read `.run/deployer/logs/`.",
    ),
    Alert(
        "DeployFailed",
        'sum(increase(deployer_deploys_total{result="failed"}[15m])) > 0.5',
        "0s",
        "look",
        "A deploy failed; the commit before it trades on.",
        "The commit did not build, was never healthy, or was taken back.",
        "`python -m deployer history` has the reason and the last lines.",
    ),
    Alert(
        "DeployerDown",
        'absent(up{job="deployer"} == 1) or (time() - deployer_look_timestamp_seconds > 60)',
        "1m",
        "look",
        "The deployer does not answer, or looks at nothing.",
        "The bots trade on, but a dead one is not replaced and a stuck one is not killed.",
        "`make status`; start it again with `make run`, or `bin/compose start deployer`.",
    ),
    Alert(
        "DeployerProblem",
        "max(deployer_problem) > 0",
        "2m",
        "look",
        "The deployer cannot do its work.",
        "Git, the bus or the Engine cannot be read. The bots go on.",
        "`make status` has the reason in its first line.",
    ),
    Alert(
        "FeedStale",
        'never_sleeps:feed_age_seconds{feed=~"binance .*"} > 15',  # a quiet book is not a stale one
        "15s",
        "page",
        "{{ $labels.feed }} brought nothing for {{ $value | humanizeDuration }}.",
        "The trader has no fresh price: no entry is made in slots of that asset, and no exit is decided on the old price.",
        "Does the venue of the feed have an incident? Is this machine's network up? The bot reconnects by itself for ever.",
    ),
    Alert(
        "EntriesClosed",
        'max by (reason) (bot_entries_closed{reason!~"halted|paused"}) == 1',
        "10m",
        "look",
        "Entries have been closed for ten minutes: {{ $labels.reason }}.",
        "Nobody halted or paused, and yet no entry is allowed. Exits go on.",
        "`cat volumes/bus/status.json`, field entries, has the whole sentence.",
    ),
    Alert(
        "DiskNearlyFull",
        "min(bot_bus_free_bytes) < 1e9 or min(bot_bus_free_bytes / bot_bus_size_bytes) < 0.05",
        "1m",
        "look",
        "The disk of the bus is nearly full.",
        "Less than 1 GB or 5 % is left. On a full disk entries stop, exits go on within a reserve.",
        "`docker system df`, `du -sh .run volumes`; make room.",
    ),
    Alert(
        "DiskFull",
        "min(bot_bus_free_bytes) < 64e6",
        "30s",
        "page",
        "The disk of the bus is full.",
        "Entries are closed until the ledger's reserve can be restored.",
        "Make room now: `docker builder prune`, old logs in `.run/deployer/logs/`.",
    ),
    Alert(
        "BuildsRefused",
        "max by (disk) (deployer_disk_low) > 0",
        "1m",
        "look",
        "Nothing is built: the disk of {{ $labels.disk }} has less than DEPLOYER_MIN_FREE left.",
        "Old builds were removed, and it was not enough. A push fails with the figures; "
        "rollback and what trades are not affected.",
        "`docker system df`, `du -sh .run volumes`; make room, then `deployer deploy REF`.",
    ),
    Alert(
        "ClockOff",
        "max(bot_clock_offset_seconds) > 1",
        "2m",
        "look",
        "This machine's clock is {{ $value | humanizeDuration }} off the venue's.",
        "Beyond one interval, entries are closed.",
        "`timedatectl`, `chronyc tracking`: start time synchronisation.",
    ),
    Alert(
        "LoopSlow",
        "never_sleeps:loop_lag_seconds:p99 > 0.25",
        "5m",
        "look",
        "The trader's event loop is {{ $value | humanizeDuration }} late.",
        "The machine is overloaded, or something in the bot blocks. Polls begin late.",
        "`top`; the Machine dashboard. A build beside it? A strategy that computes for long?",
    ),
    Alert(
        "BotNotScraped",
        'up{job="bot"} == 0',
        "1m",
        "look",
        "Bot {{ $labels.instance }} does not answer Prometheus.",
        "It is stuck (then the deployer kills it within seconds), or the network between them is not there.",
        "`make status`; is it in the list of living instances?",
    ),
    Alert(
        "LogLinesDropped",
        "sum(increase(bot_log_lines_dropped_total[10m])) > 0",
        "0s",
        "look",
        "Lines of a bot's log were dropped.",
        "Nobody read its output in time (a full pipe, a full disk). Trading is not held up by it.",
        "Is the disk full where logs are kept? `docker info` shows the log driver.",
    ),
    Alert(
        "Watchdog",
        "vector(1)",
        "0s",
        "none",
        "Always firing: the way from Prometheus to you is open.",
        "It never stops. Have somebody outside of this machine tell you when it does (a dead man's switch).",
        "When it is missing: Prometheus, Alertmanager or the machine is down.",
    ),
)
