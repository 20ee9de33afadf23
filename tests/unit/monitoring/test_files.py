"""Rules, dashboards and documents name what the processes export: no other name, no other label, no value that never is."""

from __future__ import annotations

import re

import pytest

from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES
from tests.unit.monitoring.exports import Family, bot_target_labels, families
from tests.unit.monitoring.files import (
    ROOT,
    alerts,
    metrics_table,
    queries,
    recorded_table,
    recordings,
    runbook,
    scrape_jobs,
)
from tests.unit.monitoring.promql import Catalog, QueryError

# A name that looks like a metric, and the star behind one that stands for all that begin so; modules (bench.paper_load) do not.
_WORD = re.compile(r"(?<![\w./])((?:bot|deployer|panel|paper)_[a-z0-9_]+|never_sleeps:[a-z0-9_:]+)(\*?)")
# What Prometheus itself adds to each target: its documentation, "Automatically generated labels and time series".
_OF_EACH_TARGET = ("up", "scrape_samples_scraped", "scrape_duration_seconds")

Values = dict[str, frozenset[str] | None]


@pytest.fixture(scope="module")
def exported() -> list[tuple[Family, Values]]:
    """Every family with the values of its labels; None where the values depend on settings or on what runs."""
    as_set = families(DEFAULT_ASSETS, DEFAULT_TIMEFRAMES)
    otherwise = families(DEFAULT_ASSETS[:1], DEFAULT_TIMEFRAMES[:1])
    return [(one, _closed(one, other)) for one, other in zip(as_set, otherwise, strict=True)]


def _closed(one: Family, other: Family) -> Values:
    assert (one.process, one.name) == (other.process, other.name)
    return {
        label: frozenset(values) if values and values == other.labels[label] and one.type != "info" else None
        for label, values in one.labels.items()
    }


@pytest.fixture(scope="module")
def catalog(exported: list[tuple[Family, Values]], tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """All series that Prometheus has: those that are scraped, with the labels of their targets, and those that rules record."""
    made = Catalog()
    target_labels = {
        name: {label for found in job.get("static_configs", ()) for label in found["labels"]}
        | (bot_target_labels(tmp_path_factory.mktemp("targets")) if "file_sd_configs" in job else set())
        for name, job in scrape_jobs().items()
    }
    of_target: dict[str, Values] = {
        job: {**dict.fromkeys(labels), "job": frozenset({job})} for job, labels in target_labels.items()
    }
    for family, values in exported:
        for name, labels in family.series():
            les: Values = {"le": frozenset(labels["le"])} if "le" in labels else {}
            made.add(name, family.process, {**values, **les, **of_target[family.process]})
    for name in _OF_EACH_TARGET:
        for job, labels_of_job in of_target.items():
            made.add(name, job, labels_of_job)
    for name, expr in recordings().items():
        made.add(name, "", dict.fromkeys(made.labels(expr)))
    return made


def test_every_process_is_scraped_under_its_name(exported: list[tuple[Family, Values]]) -> None:
    """The job of each process bears the process's name, on which rules and dashboards rely."""
    assert set(scrape_jobs()) == {family.process for family, _ in exported} | {"prometheus"}


def test_every_query_asks_for_names_labels_and_values_that_exist(catalog: Catalog) -> None:
    """Each name, and each label in a selector, by (), on () or a legend, is exported; each value of a closed list is in it."""
    wrong = []
    for query in queries():
        try:
            labels = catalog.labels(query.expr)
        except QueryError as error:
            wrong.append(f"{query.where}: {error}")
            continue
        if missing := set(re.findall(r"{{\s*(\w+)\s*}}", query.legend)) - labels:
            wrong.append(f"{query.where}: the legend names {sorted(missing)}; the result has {sorted(labels)}")
    assert not wrong, "\n".join(wrong)


def test_every_alert_asks_for_names_labels_and_values_that_exist(catalog: Catalog) -> None:
    """The same for alerts, and for the labels in what they say."""
    wrong = []
    for name, rule in alerts().items():
        try:
            labels = catalog.labels(rule["expr"])
        except QueryError as error:
            wrong.append(f"{name}: {error}")
            continue
        said = " ".join(rule["annotations"].values())
        if missing := set(re.findall(r"\$labels\.(\w+)", said)) - labels:
            wrong.append(f"{name}: it says $labels.{', '.join(sorted(missing))}; the result has {sorted(labels)}")
    assert not wrong, "\n".join(wrong)


def test_every_recorded_series_is_in_the_table_with_its_labels(catalog: Catalog) -> None:
    """docs/reference/metrics.md has each recorded series with the labels that it has, and no other."""
    assert recorded_table() == {name: catalog.labels(name) for name in recordings()}


def test_the_table_of_metrics_has_what_the_processes_export_and_nothing_else(
    exported: list[tuple[Family, Values]],
) -> None:
    """Each metric has one line in metrics.md: type, labels, the values of closed lists, meaning. A failure shows them."""
    listed = [_line(row.process, row.name, row.type, row.labels, row.meaning) for row in metrics_table()]
    real = [
        _line(
            family.process,
            family.listed_as,
            family.type,
            {label: None if values[label] is None else family.labels[label] for label in values},
            family.meaning,
        )
        for family, values in exported
    ]
    lacking, surplus = [line for line in real if line not in listed], [line for line in listed if line not in real]
    assert not lacking, "\n".join(["docs/reference/metrics.md lacks", *lacking])
    assert not surplus, "\n".join(["docs/reference/metrics.md has, and no process exports", *surplus])
    assert len(listed) == len(set(listed)), "docs/reference/metrics.md has a line twice"
    assert all(family.meaning for family, _ in exported)


def _line(process: str, name: str, kind: str, labels: dict[str, tuple[str, ...] | None], meaning: str) -> str:
    cell = "; ".join(label if values is None else f"{label}: {', '.join(values)}" for label, values in labels.items())
    return f"{process}: | `{name}` | {kind} | {cell} | {meaning} |"


def test_documents_name_only_metrics_that_exist(catalog: Catalog, exported: list[tuple[Family, Values]]) -> None:
    """A name that looks like a metric in docs/ or the README is one, and a name with a star is the beginning of one."""
    names = {family.name for family, _ in exported} | {family.listed_as for family, _ in exported}
    wrong = []
    for path in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"):
        for name, star in _WORD.findall(path.read_text()):
            is_there = any(one.startswith(name) for one in names) if star else name in names or name in catalog
            if not is_there:
                wrong.append(f"{path.name}: {name}{star}")
    assert not wrong, "\n".join(wrong)


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    """A section says what its rule says: severity, wait, expression; what it means, what to do first; the rule links to it."""
    rules, sections = alerts(), runbook()
    assert list(sections) == list(rules)
    for name, rule in rules.items():
        section = sections[name]
        assert rule["annotations"]["runbook"] == f"docs/how-to/runbook.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith("."), name
        said = (section.severity, section.wait, section.expr)
        assert said == (rule["labels"]["severity"], rule["for"], rule["expr"]), name
        assert re.search(r"^\*\*It means:\*\* \S", section.text, re.MULTILINE), name
        assert re.search(r"^\*\*Do first:\*\* \S", section.text, re.MULTILINE), name


def test_an_alert_is_of_a_severity_that_has_a_receiver() -> None:
    """Each severity is one that Alertmanager routes."""
    routed = (ROOT / "monitoring" / "alertmanager" / "alertmanager.yml").read_text()
    severities = {rule["labels"]["severity"] for rule in alerts().values()} - {"none"}
    assert {severity for severity in severities if f'severity = "{severity}"' not in routed} == set()


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        ("bot_nothing", "is exported by no process"),
        ('bot_polls_total{sort="active"}', r"fits sort=.active.; its labels are color, instance, job, kind"),
        ('bot_polls_total{kind="activ"}', "nothing that it exports fits"),
        ('bot_entries_closed{reason!~"halted|pausd"}', "nothing that it exports fits"),
        ('panel_streams{job="bot"}', "nothing that it exports fits"),
        ('bot_loop_lag_seconds_bucket{le="0.7"}', "nothing that it exports fits"),
        ("sum by (state) (bot_polls_total)", "no label state"),
        ("max without (slot) (bot_active)", "no label slot"),
        ("bot_active * on (git_sha) bot_healthy", "no label git_sha"),
        ("bot_active * on (instance) group_left (git_sha) bot_healthy", "no label git_sha"),
        ("bot_decisions_total / bot_active", "never match"),
        ("histogram_quantile(0.9, sum by (color) (rate(bot_loop_lag_seconds_bucket[5m])))", "needs the label le"),
        ("never_sleeps:trader * on (slot) bot_active", "no label slot"),
        ('label_replace(bot_active, "a", "b", "c", "d")', "teach it"),
    ],
)
def test_a_query_of_what_is_not_there_is_found(catalog: Catalog, expr: str, told: str) -> None:
    """The check itself finds each kind of mistake."""
    with pytest.raises(QueryError, match=told):
        catalog.labels(expr)
