"""
After a crash: every turn it cut is closed as an error, and its memory made whole.

The parts of the turn tell more than the model's history, which is saved once per step: texts are
put together from their deltas, results of tools that were over are given back to the model.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

from agent_magics.wire import ErrorJSON, MessageInfoJSON, MessageJSON, PartJSON

from ._history import concluded, failed_result, prompt_text
from ._ids import now_ms
from ._messages import is_closed
from ._permissions import publish_reply, unanswered
from ._services import Services
from ._turn_end import end_turn

__all__ = ["recover"]

log = logging.getLogger(__name__)

_CUT = "The engine stopped during this call."
_ERROR: ErrorJSON = {
    "name": "EngineStoppedError",
    "data": {"message": "The engine stopped in the middle of this turn; what it had done is kept."},
}


async def recover(services: Services) -> int:
    """Close what the last run of the engine left open. Returns the number of turns."""
    known = set(services.sessions.ids())
    cut = services.history.unfinished()
    for session_id, message_id, history in reversed(cut):  # sub-agents before those who wait
        if session_id not in known:
            services.history.end(message_id)
            continue
        messages = await services.messages.history(session_id)
        prompt = next((m for m in messages if m["info"]["id"] == message_id), None)
        answers = [m for m in messages if m["info"].get("parentID") == message_id]
        with services.store.group():
            for request_id in unanswered(services.store, session_id):
                publish_reply(services.store, services.log, session_id, request_id, "reject")
            for message in messages:
                if _is_open(message["info"]):
                    _close_answer(services, message)
            if not _is_summary(prompt):  # a summary that was not finished replaces nothing
                parts = [part for answer in answers for part in answer["parts"]]
                text = prompt_text(prompt["parts"] if prompt else ())
                said = concluded(_complete(history, parts), text, _ERROR)
                services.history.save(message_id, said)
            end_turn(services, services.sessions.get(session_id), message_id, _ERROR)
    for checkpoint in await services.checkpoints.unfinished(known):
        session = services.sessions.get(checkpoint.session_id)
        started = functools.partial(services.containers.started, session)
        await services.checkpoints.after(checkpoint, started)
    await services.store.flushed()
    if cut:
        log.warning("closed %d turns that the last run of the engine left open", len(cut))
    return len(cut)


def _is_open(info: MessageInfoJSON) -> bool:
    return info["role"] == "assistant" and "completed" not in info["time"]


def _is_summary(prompt: MessageJSON | None) -> bool:
    return prompt is not None and any(p["type"] == "compaction" for p in prompt["parts"])


def _close_answer(services: Services, answer: MessageJSON) -> None:
    for part in answer["parts"]:
        if is_closed(part):
            continue
        deltas = _deltas(services, part["id"])
        if part["type"] == "tool":
            _close_call(part, deltas)
        else:
            part["text"] = "".join(d["delta"] for d in deltas)
            part["time"]["end"] = now_ms()
        services.messages.save_part(part)
    info = answer["info"]
    info["time"]["completed"] = now_ms()
    info["error"] = _ERROR
    services.messages.save_info(info)


def _deltas(services: Services, part_id: str) -> list[dict[str, Any]]:
    """What was added to a part since it was opened: the properties of its delta events."""
    rows = services.store.query(
        "SELECT body FROM event WHERE delta_of = ? ORDER BY position", part_id
    )
    return [json.loads(body)["properties"] for (body,) in rows]


def _close_call(part: PartJSON, deltas: Sequence[dict[str, Any]]) -> None:
    state, now = part["state"], now_ms()
    output = "".join(d["delta"] for d in deltas if "stream" in d)
    raw = "".join(d["delta"] for d in deltas if d.get("field") == "state.raw")
    if raw and not state.get("raw"):
        state["raw"] = raw
    if output:
        state.setdefault("metadata", {})["output"] = output
    state["status"] = "error"
    state["error"] = _CUT
    state["time"] = {"start": state.get("time", {"start": now})["start"], "end": now}


def _complete(history: list[ModelMessage], parts: Sequence[PartJSON]) -> list[ModelMessage]:
    """The turn's messages, with what the model had not been given yet or had only half said."""
    if not history:
        return []
    last = history[-1]
    if isinstance(last, ModelResponse):
        results = _results(last, parts)
        return [*history, ModelRequest(parts=results)] if results else history
    said = _last_step_text(parts, last)
    if not said:
        return history
    return [*history, ModelResponse(parts=[TextPart(said)], state="interrupted")]


def _results(response: ModelResponse, parts: Sequence[PartJSON]) -> list[ToolReturnPart]:
    by_call = {p["callID"]: p["state"] for p in parts if p["type"] == "tool"}
    results = []
    for call in response.parts:
        if not isinstance(call, ToolCallPart) or call.tool_call_id not in by_call:
            continue
        state = by_call[call.tool_call_id]
        if state["status"] == "completed":
            results.append(ToolReturnPart(call.tool_name, state["output"], call.tool_call_id))
        else:
            results.append(failed_result(call, state.get("error", _CUT)))
    return results


def _last_step_text(parts: Sequence[PartJSON], request: ModelRequest) -> str:
    """Text since the last step began, unless `request` has the results of that step already."""
    starts = [i for i, p in enumerate(parts) if p["type"] == "step-start"]
    current = parts[starts[-1] :] if starts else parts
    answered = {getattr(p, "tool_call_id", None) for p in request.parts}
    over = any(p["type"] == "step-finish" for p in current)
    if over and any(p["type"] == "tool" and p["callID"] in answered for p in current):
        return ""
    return "".join(p.get("text", "") for p in current if p["type"] == "text")
