"""Event loops, memory, processor, disk."""

from __future__ import annotations

from typing import Any

from monitoring.grafana import GREEN, RED, YELLOW, Query, Row, dashboard
from monitoring.parts import AT_0, DEPLOYS, RATE, lines, quantiles, stat


def machine() -> dict[str, Any]:
    """Loop, memory, disk, fsync."""
    return dashboard(
        "ns-machine",
        "Never Sleeps: machine",
        "What the machine gives: event loops, memory, processor, disk.",
        (
            Row(
                "Now",
                (
                    stat(
                        "Disk left",
                        "On the disk of the bus.",
                        "bytes",
                        "min(bot_bus_free_bytes)",
                        "left",
                        steps=((None, RED), (1e9, YELLOW), (5e9, GREEN)),
                    ),
                    stat(
                        "Loop lag p99",
                        "How late the trader's event loop wakes.",
                        "s",
                        "never_sleeps:loop_lag_seconds:p99",
                        "lag",
                        steps=((None, GREEN), (0.05, YELLOW), (0.25, RED)),
                    ),
                    stat(
                        "Commit p99",
                        "A poll's durable commit.",
                        "s",
                        "never_sleeps:ledger_commit_seconds:p99",
                        "commit",
                        steps=((None, GREEN), (0.05, YELLOW), (0.25, RED)),
                    ),
                    stat(
                        "fsync",
                        "Whether an fsync ever failed on this bus.",
                        "none",
                        "max(bot_fsync_failed)",
                        "failed",
                        steps=AT_0,
                        mappings=(("0", "never failed"), ("1", "FAILED")),
                    ),
                    stat(
                        "Log lines dropped",
                        "In the last hour.",
                        "none",
                        "sum(increase(bot_log_lines_dropped_total[1h]))",
                        "lines",
                        steps=AT_0,
                    ),
                    stat("Scraped", "Processes that answer Prometheus.", "none", "sum(up)", "up"),
                ),
            ),
            Row(
                "Time",
                (
                    lines(
                        "Event loop lag", "How late sleepers wake, all bots.", "s", *quantiles("bot_loop_lag_seconds")
                    ),
                    lines(
                        "Ledger commit",
                        "A poll's completed row, fsync included.",
                        "s",
                        *quantiles("bot_ledger_commit_seconds"),
                    ),
                    lines(
                        "Write to the bus",
                        "The deployer's probe: a file and its directory, both with fsync.",
                        "s",
                        *quantiles("deployer_bus_write_seconds"),
                    ),
                ),
            ),
            Row(
                "Processes",
                (
                    lines(
                        "Memory",
                        "Resident, of each process.",
                        "bytes",
                        Query("process_resident_memory_bytes", "{{job}} {{instance}}"),
                    ),
                    lines(
                        "Processor",
                        "Share of a core, of each process.",
                        "percentunit",
                        Query(f"rate(process_cpu_seconds_total{RATE})", "{{job}} {{instance}}"),
                    ),
                    lines("Open files", "Of each process.", "none", Query("process_open_fds", "{{job}} {{instance}}")),
                ),
            ),
            Row(
                "Disk",
                (
                    lines(
                        "Left",
                        "On the disk of the bus.",
                        "bytes",
                        Query("min(bot_bus_free_bytes)", "left"),
                        Query("max(bot_bus_size_bytes)", "size"),
                    ),
                    lines(
                        "Left for builds",
                        "On the disks that a build could fill. Below DEPLOYER_MIN_FREE nothing is built.",
                        "bytes",
                        Query("min by (disk) (deployer_disk_free_bytes)", "{{disk}}"),
                    ),
                    lines(
                        "Ledger",
                        "Size of the ledger's files.",
                        "bytes",
                        Query("max by (file) (bot_ledger_bytes)", "{{file}}"),
                    ),
                    lines(
                        "Series",
                        "What Prometheus keeps of each job: bounded, whatever the number of deploys.",
                        "none",
                        Query("sum by (job) (scrape_samples_scraped)", "{{job}}"),
                    ),
                ),
            ),
        ),
        DEPLOYS,
    )
