"""What a handler takes and answers, said beside it, and the OpenAPI document made from that."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from starlette.routing import BaseRoute, Route

from agent_magics import __version__
from agent_magics.wire import ErrorJSON

from ._schema import Schema, Schemas

__all__ = ["BYTES", "EVENTS", "NUMBER", "Operation", "Query", "document", "operation"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

_OPERATION = "__operation__"
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class _Media:
    """An answer, or a body, that isn't JSON."""

    type: str


BYTES = _Media("*/*")
EVENTS = _Media("text/event-stream")
NUMBER = Annotated[int, {"minimum": 0}]


@dataclass(frozen=True)
class Query:
    """A parameter of the query. `kind` is a type of the wire."""

    name: str
    kind: Any = str
    required: bool = False
    description: str = ""


@dataclass(frozen=True)
class Operation:
    """
    What `operation` says about a handler.

    `answers` maps statuses to types of the wire, `BYTES`, `EVENTS` or None; `container` says that
    the session's container is used and may be missing, `public` that no token is needed.
    """

    body: Any = None
    optional_body: bool = False
    query: tuple[Query, ...] = ()
    answers: dict[int, Any] | None = None
    container: bool = False
    public: bool = False


def operation(
    answer: Any = None,
    *,
    body: Any = None,
    optional_body: bool = False,
    query: Iterable[Query] = (),
    status: int = 200,
    also: dict[int, Any] | None = None,
    container: bool = False,
    public: bool = False,
) -> Callable[[Handler], Handler]:
    """Describe a handler; its docstring's first sentence becomes the summary."""
    described = Operation(
        body, optional_body, tuple(query), {status: answer, **(also or {})}, container, public
    )

    def mark(handler: Handler) -> Handler:
        setattr(handler, _OPERATION, described)
        return handler

    return mark


def document(routes: Iterable[BaseRoute]) -> Schema:
    """
    The OpenAPI 3.1 document of routes.

    Raises `TypeError` for one that isn't described.
    """
    schemas = Schemas()
    error = _content(ErrorJSON, schemas)
    paths: dict[str, Schema] = {}
    for route in routes:
        assert isinstance(route, Route)
        described = getattr(route.endpoint, _OPERATION, None)
        if described is None:
            raise TypeError(f"{route.path} is not described")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path_format, {})[method.lower()] = _operation(
                route, described, schemas, error
            )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-magics",
            "version": __version__,
            "description": "Sessions of a coding agent, each with a Linux container of its own.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.components.items())),
        },
    }


def _operation(route: Route, described: Operation, schemas: Schemas, error: Schema) -> Schema:
    summary, _, rest = inspect.cleandoc(route.endpoint.__doc__ or "").partition("\n\n")
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path_format)
    ]
    query = [
        {
            "name": each.name,
            "in": "query",
            "required": each.required,
            "description": each.description,
            "schema": schemas.of(each.kind),
        }
        for each in described.query
    ]
    responses = {
        str(status): {"description": "Done.", **_content(answer, schemas)}
        for status, answer in (described.answers or {}).items()
    }
    responses["4XX"] = {"description": "A mistake of the client's.", **error}
    if described.container:
        responses["503"] = {"description": "There is no container.", **error}
        responses["507"] = {"description": "The container's disk is full.", **error}
    found: Schema = {
        "operationId": f"{route.endpoint.__module__.rpartition('_')[2]}.{route.endpoint.__name__}",
        "summary": " ".join(summary.split()),
        "parameters": path + query,
        "responses": responses,
    }
    if rest:
        found["description"] = rest
    if described.public:
        found["security"] = []
    if described.body is not None:
        body = _content(described.body, schemas)
        found["requestBody"] = {"required": not described.optional_body, **body}
    return found


def _content(kind: Any, schemas: Schemas) -> Schema:
    if kind is None:
        return {}
    if isinstance(kind, _Media):
        return {"content": {kind.type: {"schema": {}}}}
    return {"content": {"application/json": {"schema": schemas.of(kind)}}}
