"""Every operation that the OpenAPI document names, with requests made from their own schemas and with broken ones."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from bus import Logging, SystemClock, is_halted, open_bus, read_control
from panel import Actions, Connections, Events, Guard, LedgerQueries, Scope, Token, Views, create_app
from tests.unit.panel.running import Answer, Bot, make_status

CONTROL, READ = "c" * 40, "r" * 40
TOKENS = (Token(CONTROL, Scope.CONTROL, "ana"), Token(READ, Scope.READ, "wall"))
EIGHT = {"pause", "resume", "halt", "flatten", "enter", "slots/{slot}", "risk", "strategy"}
NEWEST = -1  # in a body: the generation that is newest then

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["BTC-5m", "ETH-15m", "BTC-5m+1", "NONE", "%00", "\U0001f4a9", "x" * 300, "1800000000000-0000000a", "7", "0x1"]
)


class Application:
    """The panel's application behind its guard, without a socket, on a bus with a status."""

    def __init__(self, folder: Path) -> None:
        self.bus, clock, log = open_bus(folder), SystemClock(), Logging(descriptor=2).log
        views, history, ids = Views(self.bus, clock), LedgerQueries(self.bus), itertools.count()
        actions = Actions(self.bus, clock, log, new_id=lambda: f"1800000000000-{next(ids):08x}")
        actions.begin()
        Bot(self.bus).write(make_status())
        app = create_app(
            views=views,
            history=history,
            actions=actions,
            events=Events(self.bus, views, history),
            log=log,
            is_halted=lambda: is_halted(self.bus),
        )
        self.document: dict[str, Any] = app.openapi()
        seconds = itertools.count()  # every request comes a second later, so that no rate limit hides what is behind it
        hosts = frozenset({"localhost"})

        async def set_halt() -> None:
            actions.set_halt()

        self.guard: ASGIApp = Guard(
            app,
            hosts=hosts,
            tokens=TOKENS,
            now_s=lambda: next(seconds),
            log=log,
            connections=Connections(time.monotonic),
            set_halt=set_halt,
            spend_code=lambda _code: False,
        )

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(method, path, description) of each, the endless stream aside."""
        return [
            (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            if path != "/api/events"
        ]

    def ask(self, method: str, path: str, body: bytes = b"", query: str = "", token: str | None = CONTROL) -> Answer:
        """One request."""
        return asyncio.run(_ask(self.guard, method, path, body, query, token))


async def _ask(app: ASGIApp, method: str, path: str, body: bytes, query: str, token: str | None) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            *([(b"authorization", f"Bearer {token}".encode())] if token else []),
        ],
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "scheme": "http",
    }
    await app(scope, receive, send)
    return Answer(sent[0]["status"], {}, b"".join(message.get("body", b"") for message in sent[1:]))


def values(schema: Mapping[str, Any], document: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """JSON values as a schema describes them, near enough."""
    if "$ref" in schema:
        return values(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of(*(values(one, document) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = set(schema.get("required", ()))
            fields = {name: values(one, document) for name, one in schema["properties"].items()}
            if "generation" in fields:
                fields["generation"] = st.just(NEWEST) | st.integers(0, 3)
            return st.fixed_dictionaries(
                {name: one for name, one in fields.items() if name in required},
                optional={name: one for name, one in fields.items() if name not in required | {"wait_s"}},
            )
        case "object":
            names = st.sampled_from(["min_edge", "kelly", "no such", "x"])
            return st.dictionaries(names, values(schema.get("additionalProperties", {}), document), max_size=4)
        case "string":
            return st.sampled_from(["BTC-5m", "ETH-5m", "0.5", "12.5", "main", ""]) | st.text(max_size=20)
        case "integer":
            return st.integers(schema.get("minimum", -9), schema.get("maximum", 1 << 60))
        case "number":
            return st.floats(0, 100) | st.floats()
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return _JSON


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """One for all tests here: that each example finds what the others left is part of the test."""
    return Application(tmp_path_factory.mktemp("bus"))


def test_the_eight_actions_are_there_and_no_operation_works_without_a_token(application: Application) -> None:
    """Each operation answers 401 without a token; each write answers 403 to one that may only look, and changes nothing."""
    operations = application.operations()
    writes = {path.removeprefix("/api/") for method, path, _ in operations if method == "POST"}
    assert writes == EIGHT | {"rollback", "approve", "notify-test"}
    before = read_control(application.bus)
    for method, path, _ in operations:
        filled = (
            path.replace("{slot}", "BTC-5m")
            .replace("{order_id}", "0x1")
            .replace("{generation}", "1")
            .replace("{request}", "1" * 13 + "-" + "a" * 8)
        )
        body = json.dumps({"generation": 1, "enabled": False}).encode()
        assert application.ask(method, filled, body, token=None).status == 401, path
        assert application.ask(method, filled, body, token="c" * 39).status == 401, path
        read = application.ask(method, filled, body, token=READ)
        assert read.status == 403 if method == "POST" else read.status in (200, 404), path
    assert read_control(application.bus) == before
    assert application.ask("GET", "/api/openapi.json", token=None).status == 401


def test_nothing_that_is_sent_makes_the_panel_fail(application: Application) -> None:
    """Requests made from each operation's own schema, and broken ones: JSON below 500, whatever was done before."""
    operations, answered = application.operations(), set()

    # Each operation has its share: drawn at random some were left out, now these and now those.
    @given(data=st.data())
    @settings(max_examples=400 // len(operations) + 1, deadline=None, suppress_health_check=list(HealthCheck))
    def each(method: str, path: str, operation: Mapping[str, Any], data: st.DataObject) -> None:
        for name in ("slot", "generation", "request", "order_id"):
            path = path.replace(f"{{{name}}}", quote(data.draw(_NAMES), safe=""))
        query = data.draw(st.sampled_from(["", "slot=BTC-5m&most=3", "most=0", "days=x", "slot=%ff", "most=9&days=2"]))
        body = b""
        if method == "POST":
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            value = data.draw(st.one_of(*[values(schema, application.document)] * 5, _JSON))
            if isinstance(value, dict) and value.get("generation") == NEWEST:
                value["generation"] = read_control(application.bus).generation
            body = json.dumps(value).encode() if data.draw(st.integers(0, 9)) else data.draw(st.binary(max_size=50))
        answer = application.ask(method, path, body, query)
        answered.add((operation["operationId"], answer.status))
        assert answer.status < 500, (method, path, body, answer.body)
        assert answer.status == 200 or answer.json["error"]
        for request in application.bus.requests.glob("*.json"):
            request.unlink()  # as the deployer does with what it answered

    for method, path, operation in operations:
        each(method, path, operation)
    assert {status for _, status in answered} <= {200, 400, 404, 409, 422}
    well = {name for name, status in answered if status == 200}
    assert len(well) > len(operations) / 2, f"too few operations were reached with a good request: {sorted(well)}"
