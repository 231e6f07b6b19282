"""Handing a prompt to the server, once, also when an answer gets lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._errors import ConnectionFailed, NotFound, SessionNotFound
from ._protocol import session_path

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["submit_prompt"]


async def submit_prompt(api: Api, session_id: str, body: Mapping[str, Any]) -> None:
    """
    Send a prompt, or a command; `body` must have its `messageID`. Model credentials go along where
    they may.

    Raises the typed error when the server does not take it.
    """
    whole = dict(body)
    if environ := api.credentials():
        whole["environ"] = environ
    path = session_path(session_id, "command_async" if "command" in body else "prompt_async")
    try:
        await api.post_json(path, whole, missing=SessionNotFound)
    except ConnectionFailed:
        if not await _was_taken(api, session_id, str(body["messageID"])):
            await api.post_json(path, whole, missing=SessionNotFound)


async def _was_taken(api: Api, session_id: str, message_id: str) -> bool:
    """Whether a prompt whose answer was lost had arrived."""
    try:
        await api.request("GET", session_path(session_id, "message", message_id))
    except NotFound:
        return False
    return True
