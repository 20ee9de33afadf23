"""Series of a system in which nothing is wrong, for promtool: 20 minutes, a sample every 5 s; and an ordinary handover in it."""

from __future__ import annotations

SAMPLES = 240
CLOCK = f"0+5x{SAMPLES}"  # the time itself, as a timestamp that is kept up
RISING = f"0+1x{SAMPLES}"

Series = dict[str, str]


def _always(value: float) -> str:
    return f"{value:g}x{SAMPLES}"


def _bot(place: str, sha: str, *, active: int) -> Series:
    color = place.partition("-")[0]
    who = f'instance="{place}",color="{color}",job="bot"'
    return {
        f"bot_active{{{who}}}": _always(active),
        f"bot_healthy{{{who}}}": _always(1),
        f'bot_build_info{{{who},git_sha="{sha}",version="1"}}': _always(1),
        f"up{{{who}}}": _always(1),
        f"bot_tick_timestamp_seconds{{{who}}}": CLOCK,
        f"bot_poll_interval_seconds{{{who}}}": _always(5),
        f"bot_ledger_polls_missed{{{who}}}": _always(3),
        f"bot_ledger_in_doubt{{{who}}}": _always(0),
        f"bot_ledger_failed_trades{{{who}}}": _always(1),
        f"bot_fsync_failed{{{who}}}": _always(0),
        f'bot_feed_timestamp_seconds{{{who},feed="binance BTC"}}': CLOCK,
        f'bot_entries_closed{{{who},reason="clock"}}': _always(0),
        f'bot_entries_closed{{{who},reason="paused"}}': _always(0),
        f"bot_bus_free_bytes{{{who}}}": _always(50e9),
        f"bot_bus_size_bytes{{{who}}}": _always(100e9),
        f"bot_clock_offset_seconds{{{who}}}": _always(0),
        f'bot_loop_lag_seconds_bucket{{{who},le="0.01"}}': RISING,
        f'bot_loop_lag_seconds_bucket{{{who},le="1.0"}}': RISING,
        f'bot_loop_lag_seconds_bucket{{{who},le="+Inf"}}': RISING,
        f"bot_log_lines_dropped_total{{{who}}}": _always(0),
        f'bot_venue_data_skipped_total{{{who},source="gamma",code="shape"}}': _always(0),
    }


BLUE, SPARE = 'instance="blue-1",color="blue",job="bot"', 'instance="blue-2",color="blue",job="bot"'
GREEN = 'instance="green-1",color="green",job="bot"'
_DEPLOYER = 'instance="deployer",job="deployer"'


def calm() -> Series:
    """A trader, its spare, a deployer."""
    return {
        **_bot("blue-1", "aaa", active=1),
        **_bot("blue-2", "aaa", active=0),
        f"up{{{_DEPLOYER}}}": _always(1),
        f'deployer_confirmed_info{{{_DEPLOYER},git_sha="aaa"}}': _always(1),
        f"deployer_deploy_open{{{_DEPLOYER}}}": _always(0),
        f"deployer_spares_wanted{{{_DEPLOYER}}}": _always(1),
        'panel_notify_failing{instance="panel",job="panel"}': _always(0),
        f"deployer_unit_deaths_total{{{_DEPLOYER}}}": _always(0),
        f'deployer_deploys_total{{{_DEPLOYER},result="failed"}}': _always(0),
        f"deployer_look_timestamp_seconds{{{_DEPLOYER}}}": CLOCK,
        f"deployer_problem{{{_DEPLOYER}}}": _always(0),
        f'deployer_disk_low{{{_DEPLOYER},disk="builds"}}': _always(0),
        f'deployer_handover_gap_seconds_count{{{_DEPLOYER},kind="handover"}}': _always(0),
        f'deployer_handover_gap_seconds_bucket{{{_DEPLOYER},kind="handover",le="1.0"}}': _always(0),
    }


def handover(seen: str) -> Series:
    """Green takes over after 5 minutes, is confirmed 15 s later, and blue is gone a minute later.

    seen: what the scrape in the middle of it shows of both: "nobody" active, or "both".
    """
    middle = 1 if seen == "both" else 0
    found = {**calm(), **_bot("green-1", "bbb", active=0)}
    for name in [name for name in found if 'instance="green-1"' in name]:
        value = found[name]
        begun = 50  # green is started 50 samples in, and is scraped from then on
        if value == CLOCK:
            found[name] = f"_x{begun} {5 * begun + 5}+5x{SAMPLES - begun}"
        elif value == RISING:
            found[name] = f"_x{begun} 0+1x{SAMPLES - begun}"
        else:
            found[name] = f"_x{begun} {value.partition('x')[0]}x{SAMPLES - begun}"
    for name in [name for name in found if 'instance="blue-1"' in name]:
        step = {CLOCK: "0+5x", RISING: "0+1x"}.get(found[name], f"{found[name].partition('x')[0]}x")
        found[name] = f"{step}74 stale"
    found[f"bot_active{{{BLUE}}}"] = f"1x59 {middle} 0x14 stale"
    found[f"bot_active{{{GREEN}}}"] = f"_x50 0x9 {middle} 1x{SAMPLES - 60}"
    deployer = _DEPLOYER
    found[f'deployer_confirmed_info{{{deployer},git_sha="aaa"}}'] = "1x63 stale"
    found[f'deployer_confirmed_info{{{deployer},git_sha="bbb"}}'] = f"_x64 1x{SAMPLES - 64}"
    found[f"deployer_deploy_open{{{deployer}}}"] = f"0x40 1x23 0x{SAMPLES - 64}"
    for name in ("count", "bucket"):
        more = ',le="1.0"' if name == "bucket" else ""
        key = f'deployer_handover_gap_seconds_{name}{{{deployer},kind="handover"{more}}}'
        found[key] = f"0x60 1x{SAMPLES - 61}"
    return found
