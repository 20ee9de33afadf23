"""Which labels an expression's series have; what does not fit the exported labels is told with the place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import promql_parser as promql

# What a label may be: its values, or None where the values depend on settings.
Labels = Mapping[str, frozenset[str] | None]
# Grafana's variable has a value only when it is asked; the length does not matter here.
_RATE_INTERVAL = "$__rate_interval"
_PICKING = {"topk", "bottomk", "limitk"}
_GROUPING = {"sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "quantile"}
_SET_OPERATORS = {"and", "or", "unless"}


class QueryError(AssertionError):
    """An expression asks for what is not exported."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """One process that exports a metric."""

    job: str
    labels: Labels


class Catalog:
    """The series that exist, and who exports them."""

    def __init__(self) -> None:
        self._exporters: dict[str, list[Exporter]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._exporters

    def add(self, name: str, job: str, labels: Labels) -> None:
        """One more process exports this series."""
        self._exporters.setdefault(name, []).append(Exporter(job, labels))

    def labels(self, expr: str) -> frozenset[str]:
        """The labels that the result of an expression may have. Raises QueryError for names and labels that do not exist."""
        parsed = promql.parse(expr.replace(_RATE_INTERVAL, "20s"))
        labels = self._of(parsed)
        return frozenset() if labels is None else labels

    def _of(self, expr: promql.Expr) -> frozenset[str] | None:
        """As `labels`, None for a scalar."""
        match expr:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._of(expr.expr)
            case promql.MatrixSelector():
                return self._of(expr.vector_selector)
            case promql.VectorSelector():
                return self._of_selector(expr)
            case promql.Call():
                return self._of_call(expr)
            case promql.AggregateExpr():
                return self._of_aggregation(expr)
            case promql.BinaryExpr():
                return self._of_binary(expr)
            case _:
                raise QueryError(f"{expr}: this test does not know this kind of expression; teach it in promql.py")

    def _of_selector(self, selector: promql.VectorSelector) -> frozenset[str]:
        name = selector.name
        if name is None or name not in self:
            raise QueryError(f"{name} is exported by no process and recorded by no rule")
        matchers = selector.matchers.matchers
        exporters = self._exporters[name]
        for matcher in matchers:
            if not any(_may_match(matcher, exporter.labels.get(matcher.name, frozenset())) for exporter in exporters):
                known = sorted({label for exporter in exporters for label in exporter.labels})
                raise QueryError(f"{name}: nothing that it exports fits {matcher}; its labels are {', '.join(known)}")
        jobs = [matcher for matcher in matchers if matcher.name == "job"]
        asked = [one for one in exporters if all(_may_match(job, frozenset({one.job})) for job in jobs)]
        return frozenset(label for exporter in asked for label in exporter.labels)

    def _of_call(self, call: promql.Call) -> frozenset[str] | None:
        arguments = [self._of(argument) for argument in call.args]
        vectors = [labels for labels in arguments if labels is not None]
        match call.func.name:
            case "time" | "scalar":
                return None
            case "vector" | "absent":
                return frozenset()  # absent: the labels of its equal matchers, which no rule here relies on
            case "histogram_quantile":
                if "le" not in vectors[0]:
                    raise QueryError(f"{call.prettify()}: a quantile needs the label le")
                return vectors[0] - {"le"}
            case "label_replace" | "label_join":
                raise QueryError(f"{call.prettify()}: this test does not know {call.func.name}; teach it in promql.py")
            case _:
                return vectors[0] if vectors else None

    def _of_aggregation(self, aggregation: promql.AggregateExpr) -> frozenset[str]:
        labels = self._of(aggregation.expr) or frozenset()
        operator = str(aggregation.op)
        if operator not in _GROUPING | _PICKING:
            raise QueryError(f"{aggregation.prettify()}: this test does not know {operator}; teach it in promql.py")
        grouped = aggregation.modifier
        if grouped is not None:
            _need(aggregation, grouped.labels, labels)
        if operator in _PICKING:
            return labels
        if grouped is None:
            return frozenset()
        named = frozenset(grouped.labels)
        return named if grouped.type == promql.AggModifierType.By else labels - named

    def _of_binary(self, binary: promql.BinaryExpr) -> frozenset[str] | None:
        left, right = self._of(binary.lhs), self._of(binary.rhs)
        if left is None or right is None:
            return left if right is None else right
        operator, modifier = str(binary.op), binary.modifier
        matching = modifier.matching if modifier is not None else None
        if matching is None:
            # Series match by all of their labels: different sets give an empty result, in silence. `or` takes both as they are.
            if operator != "or" and left != right:
                raise QueryError(f"{binary.prettify()}: {sorted(left)} on the left never match {sorted(right)}")
            return left | right
        named = frozenset(matching.labels)
        on = matching.type == promql.LabelModifierType.Include
        _need(binary, named, left & right if on else left | right)
        if operator in _SET_OPERATORS:
            return left | right if operator == "or" else left
        assert modifier is not None
        more = frozenset(modifier.group_labels or ())
        if modifier.card == promql.VectorMatchCardinality.ManyToOne:
            _need(binary, more, right)
            return left | more
        if modifier.card == promql.VectorMatchCardinality.OneToMany:
            _need(binary, more, left)
            return right | more
        return named if on else left - named


def _need(expr: promql.Expr, named: Iterable[str], there: frozenset[str]) -> None:
    if missing := sorted(set(named) - there):
        raise QueryError(f"{expr.prettify()}: no label {', '.join(missing)}; there are {', '.join(sorted(there))}")


def _may_match(matcher: promql.Matcher, values: frozenset[str] | None) -> bool:
    """Whether each value that a matcher names exists. values: None where they are not a closed list, empty without the label."""
    if values is None:
        return True
    if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
        return matcher.value in values
    return all(any(re.fullmatch(part, value) for value in values) for part in matcher.value.split("|"))
