"""Requests about the past of a session: take back, bring back, copy, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent_magics.wire import FileDiff, Message, RevertPreview, RevertResult, SkippedFile

from ._errors import MessageNotFound, SessionNotFound
from ._protocol import as_mapping, json_body, parse, session_path

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["fork", "get_diff", "messages", "preview", "revert", "unrevert"]

_TIMEOUT = 600.0
"""Seconds; files may have to be copied."""


async def messages(api: Api, session_id: str) -> list[Message]:
    """The history without what is reverted."""
    found = await api.get_json(session_path(session_id, "message"), missing=SessionNotFound)
    shown = parse(lambda: [Message.from_json(message) for message in found])
    if (await api.connection()).is_numbered:
        return shown
    # opencode goes on listing what is reverted; its session says from where on.
    session = await api.get_json(session_path(session_id), missing=SessionNotFound)
    first = (as_mapping(session).get("revert") or {}).get("messageID")
    ids = [message.info.id for message in shown]
    return shown[: ids.index(first)] if first in ids else shown


async def preview(api: Api, session_id: str, message_id: str) -> RevertPreview:
    await api.require_engine("preview of a revert")
    answer = await _post(api, session_id, "revert", {"messageID": message_id}, {"preview": "true"})
    return parse(RevertPreview.from_json, answer)


async def revert(api: Api, session_id: str, message_id: str) -> RevertResult:
    if not (await api.connection()).is_numbered:
        # opencode takes an unknown id without a word.
        known = [message.info.id for message in await messages(api, session_id)]
        if message_id not in known:
            raise MessageNotFound(f"Message not found: {message_id}")
    answer = await _post(api, session_id, "revert", {"messageID": message_id})
    done = answer.get("reverted") or answer.get("revert")
    return parse(RevertResult.from_json, as_mapping(done))


async def unrevert(api: Api, session_id: str) -> None:
    await _post(api, session_id, "unrevert", {})


async def fork(
    api: Api, session_id: str, message_id: str | None
) -> tuple[str, tuple[SkippedFile, ...]]:
    """The id of the copy, and what was not copied."""
    body = {} if message_id is None else {"messageID": message_id}
    answer = await _post(api, session_id, "fork", body)
    skipped = answer.get("skipped") or ()
    return parse(
        lambda: (str(answer["id"]), tuple(SkippedFile.from_json(file) for file in skipped))
    )


async def get_diff(api: Api, session_id: str, message_id: str | None) -> list[FileDiff]:
    params = {} if message_id is None else {"messageID": message_id}
    path = session_path(session_id, "diff")
    files = await api.get_json(path, params, missing=SessionNotFound)
    return parse(lambda: [FileDiff.from_json(file) for file in files])


async def _post(
    api: Api,
    session_id: str,
    action: str,
    body: Mapping[str, Any],
    params: Mapping[str, str] | None = None,
) -> Mapping[str, Any]:
    response = await api.request(
        "POST",
        session_path(session_id, action),
        params=params,
        json=body,
        missing=SessionNotFound,
        timeout=_TIMEOUT,
    )
    return as_mapping(json_body(response))
