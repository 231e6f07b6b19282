"""The document at /doc, and the API held to it with whatever a client may send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.requests import Request
from starlette.routing import Route

from agent_magics.engine._app import ROUTES
from agent_magics.engine._operations import document, operation
from agent_magics.engine._schema import Schemas
from tests.support.engine_harness import Harness, engine_in

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ENDLESS = "text/event-stream"


class Tree(TypedDict):
    """A tree."""

    children: list[Tree]
    size: NotRequired[float | None]


def test_types_as_schemas() -> None:
    schemas = Schemas()
    assert schemas.of(Tree | dict[str, int]) == {
        "anyOf": [
            {"$ref": "#/components/schemas/Tree"},
            {"type": "object", "additionalProperties": {"type": "integer"}},
        ]
    }
    assert schemas.components["Tree"] == {
        "type": "object",
        "description": "A tree.",
        "properties": {
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": ["children"],
    }
    with pytest.raises(TypeError, match="bytes"):
        schemas.of(bytes)


def test_a_handler_must_be_described() -> None:
    async def silent(request: Request) -> None: ...

    with pytest.raises(TypeError, match="/silent is not described"):
        document([Route("/silent", silent)])
    marked = operation(str)(silent)
    assert document([Route("/silent", marked)])["paths"]["/silent"]["get"]["responses"]["200"]


async def test_the_document_has_every_path(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        found = (await harness.http.get("/doc")).json()
    assert found["openapi"] == "3.1.0"
    operations = {(path, method) for path, methods in found["paths"].items() for method in methods}
    expected = {
        (route.path_format, method.lower())
        for route in ROUTES
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert operations == expected
    assert ("/session/{id}/prompt_async", "post") in operations
    described = [each for methods in found["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in described]
    assert len(names) == len(set(names))
    assert all(each["summary"] for each in described)


class Fuzz:
    """Sends generated requests to an engine that lives on the test's own loop."""

    def __init__(self, harness: Harness, loop: asyncio.AbstractEventLoop) -> None:
        self._harness = harness
        self._loop = loop

    def new_session(self) -> str:
        return self._await(self._harness.session()).id

    def send(self, case: Any) -> Any:
        arguments = case.as_transport_kwargs(base_url="http://agent")
        for name in ("cookies", "timeout", "verify", "cert"):
            arguments.pop(name, None)
        if isinstance(arguments.get("data"), bytes | str):
            arguments["content"] = arguments.pop("data")
        headers = dict(arguments.pop("headers"))
        headers["Authorization"] = self._harness.http.headers["Authorization"]
        request = self._harness.http.build_request(headers=headers, **arguments)
        return self._await(self._harness.http.send(request))

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


def operations(schema: Any) -> Iterator[Any]:
    for result in schema.get_all_operations():
        found = result.ok()
        if ENDLESS not in str(found.definition.raw["responses"]):
            yield found


async def test_no_request_is_answered_by_a_surprise(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        schema = schemathesis.openapi.from_dict((await harness.http.get("/doc")).json())
        fuzz = Fuzz(harness, asyncio.get_running_loop())
        count = await asyncio.to_thread(_fuzz_all, schema, fuzz)
    assert count > 300


def _fuzz_all(schema: Any, fuzz: Fuzz) -> int:
    sent = 0

    def fuzz_one(found: Any, mode: GenerationMode) -> None:
        @given(case=found.as_strategy(generation_mode=mode), is_real=st.sampled_from([1, 1, 1, 0]))
        @settings(
            max_examples=10,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any, is_real: int) -> None:
            nonlocal sent
            if is_real and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = fuzz.new_session()
            response = fuzz.send(case)
            sent += 1
            case.validate_response(response, checks=CHECKS)

        check()

    for found in operations(schema):
        raw = found.definition.raw
        if raw["parameters"] or "requestBody" in raw:
            fuzz_one(found, GenerationMode.POSITIVE)
            fuzz_one(found, GenerationMode.NEGATIVE)
    return sent
