"""A summary in place of the conversation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._errors import AgentError, BadRequest, SessionNotFound
from ._inputs import model_reference
from ._protocol import session_path

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["summarize"]

_TIMEOUT = 1800.0
"""Seconds; the answer comes when the summary is written, retries included."""
_ABORT_PATIENCE = 5.0


async def summarize(api: Api, session_id: str, model: str | None) -> bool:
    """See `AsyncSessionHandle.summarize`."""
    body: dict[str, Any] = {}
    if model is not None:
        body = model_reference(model, key="modelID")
    elif not (await api.connection()).is_numbered:
        body = await _model_of(api, session_id)  # a plain opencode server must be told
    if environ := api.credentials():
        body["environ"] = environ
    path = session_path(session_id, "summarize")
    try:
        done = await api.post_json(path, body, missing=SessionNotFound, timeout=_TIMEOUT)
    except asyncio.CancelledError:
        with suppress(AgentError, TimeoutError):
            async with asyncio.timeout(_ABORT_PATIENCE):
                await api.abort(session_id)
        raise
    return bool(done)


async def _model_of(api: Api, session_id: str) -> dict[str, Any]:
    info = await api.get_json(session_path(session_id), missing=SessionNotFound)
    model = info.get("model")
    if not model:
        raise BadRequest("No model has answered in this session yet: name one.")
    return {"providerID": model["providerID"], "modelID": model["id"]}
