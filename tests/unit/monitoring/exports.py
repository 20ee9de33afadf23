"""What the processes export, collected from their own registries; nothing here is a list by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, Metric

import bot.lifecycle.metrics
import deployer.metrics
import panel.server
import paper.wire.metrics
from bot.slots import make_slots
from bus import Instance, InstanceView, Role
from deployer.metrics import FILE, TargetsFile
from deployer.rollout.observed import Policy
from paper.engine.exchange import Exchange
from paper.streams.sockets import Sockets

# How a family's name differs from those of its series.
_IN_THE_TABLE = {"counter": "_total", "info": "_info"}
_SERIES = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one process. labels: the values that each label has at the start, without a histogram's `le`."""

    process: str
    name: str
    type: str
    labels: dict[str, tuple[str, ...]]
    meaning: str
    les: tuple[str, ...]

    @property
    def listed_as(self) -> str:
        """Its name in docs/reference/metrics.md."""
        return self.name + _IN_THE_TABLE.get(self.type, "")

    def series(self) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
        """The name and the labels of each of its series."""
        for ending in _SERIES.get(self.type, ("",)):
            yield self.name + ending, {**self.labels, **({"le": self.les} if ending == "_bucket" else {})}


def families(assets: tuple[str, ...], timeframes: tuple[str, ...]) -> list[Family]:
    """Every metric of every process, as exported at the start with these settings."""
    return [
        _family(process, family, declared)
        for process, registry in _registries(assets, timeframes).items()
        for declared in (_declared(registry),)
        for family in sorted(registry.collect(), key=lambda family: family.name)
    ]


def bot_target_labels(folder: Path) -> set[str]:
    """The labels that the deployer gives to a bot in the file that Prometheus reads."""
    document = Instance(id="1", role=Role.ACTIVE, color="blue", sha="a", unit="bot-1", metrics="0.0.0.0:1")
    TargetsFile(folder).write([InstanceView("1", True, document, 1)])
    return {label for group in json.loads((folder / FILE).read_text()) for label in group["labels"]}


def _registries(assets: tuple[str, ...], timeframes: tuple[str, ...]) -> dict[str, CollectorRegistry]:
    of_bot = bot.lifecycle.metrics.Metrics("version", "sha")
    of_bot.prepare(
        ((slot.id, slot.asset) for slot in make_slots(assets, timeframes)),
        [f"{stream} {asset}" for stream in ("binance", "books", "settlement") for asset in assets],
    )
    # Nothing is asked of the exchange before a scrape.
    of_paper = paper.wire.metrics.Metrics(cast(Exchange, None), cast(Sockets, None))
    return {
        "bot": of_bot.registry,
        "deployer": deployer.metrics.Metrics(Policy()).registry,
        "panel": panel.server.Metrics().registry,
        "paper": of_paper.registry,
    }


def _declared(registry: CollectorRegistry) -> dict[str, Iterable[str]]:
    """The declared labels by family: one without series yet shows none, and the client has no public way to ask."""
    collectors = registry._collector_to_names
    return {name: getattr(collector, "_labelnames", ()) for collector, names in collectors.items() for name in names}


def _family(process: str, family: Metric, declared: dict[str, Iterable[str]]) -> Family:
    labels: dict[str, dict[str, None]] = {label: {} for label in declared.get(family.name, ())}
    for sample in family.samples:
        for label, value in sample.labels.items():
            labels.setdefault(label, {})[value] = None
    les = tuple(labels.pop("le", ()))
    return Family(
        process,
        family.name,
        family.type,
        {label: tuple(values) for label, values in labels.items()},
        family.documentation,
        les,
    )
