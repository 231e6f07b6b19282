"""
Records as the store has them: JSON that a damaged disk or another program may have spoiled.

One record that makes no sense never stops the engine: whoever reads it puts something in its place
that says so. Only what a session is allowed to do is not guessed; see `Session.of_row`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from agent_magics.wire import MessageInfoJSON, PartJSON

__all__ = [
    "Unreadable",
    "check_session",
    "decoded",
    "is_session_id",
    "sound_message",
    "sound_part",
    "time_of_id",
    "title_in",
]

_SESSION_ID = re.compile(r"ses_[A-Za-z0-9_]{1,80}")
_TITLE = re.compile(r'"title":"((?:[^"\\]|\\.){1,200})"')
_NUMBER = (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    "title": (str,),
    "created": (int,),
    "updated": (int,),
    "parent_id": (str, type(None)),
    "archived": (int,),
    "titled": (bool, int),
    "model": (dict, type(None)),
    "chosen": (dict, type(None)),
    "sandbox": (str,),
    "provider": (str,),
    "isolated": (bool,),
    "python": (dict, type(None)),
    "rules": (list,),
    "standing": (list,),
    "metadata": (dict, type(None)),
    "agent": (str,),
    "agent_config": (dict, type(None)),
    "limits": (list,),
    "container": (str, type(None)),
    "bounds": (dict,),
    "allowance": (dict,),
    "network": (list, type(None)),
    "todos": (list,),
    "revert": (dict, type(None)),
    "error": (dict, type(None)),
    "started_by": (str, type(None)),
    "hidden": (bool,),
}
_REQUIRED = ("title", "created", "updated")
_USAGE = {"messages", "steps", "tools", "tokens", "cost", "context_used", "context_limit"}
_NO_TOKENS = {"input": 0, "output": 0, "reasoning": 0}
_RULE = ("permission", "pattern", "action")


class Unreadable(ValueError):
    """The record makes no sense; the message says what is wrong with it, without its content."""


def decoded(data: Any) -> dict[str, Any]:
    """The JSON object of a record. Raises Unreadable."""
    try:
        value = json.loads(data)
    except (TypeError, ValueError, RecursionError):
        raise Unreadable("it is not JSON") from None
    if not isinstance(value, dict):
        raise Unreadable("it is not a JSON object")
    return value


def check_session(session_id: str, record: Mapping[str, Any]) -> None:
    """Raises Unreadable where the record does not say what a session is and may do."""
    if record.get("id") != session_id:
        raise Unreadable("it is another session's")
    for name in _REQUIRED:
        if name not in record:
            raise Unreadable(f"`{name}` is missing")
    for name, kinds in _FIELDS.items():
        if name in record and not isinstance(record[name], kinds):
            raise Unreadable(f"`{name}` is of the wrong kind")
    for name in ("parent_id", "container"):  # the latter names a directory
        if not (record.get(name) is None or is_session_id(record[name])):
            raise Unreadable(f"`{name}` is no session's id")
    for name in ("rules", "standing"):
        if not all(_is_rule(rule) for rule in record.get(name, ())):
            raise Unreadable(f"`{name}` has what is no rule")
    for rules in record.get("limits", ()):
        if not (isinstance(rules, list) and all(_is_rule(rule) for rule in rules)):
            raise Unreadable("`limits` has what is no rule")
    if not all(isinstance(host, str) for host in record.get("network") or ()):
        raise Unreadable("`network` has what is no host")
    for todo in record.get("todos", ()):
        if not (isinstance(todo, dict) and isinstance(todo.get("content"), str)):
            raise Unreadable("`todos` has what is no todo")
    _check_models(record)
    for name in ("usage", "gone"):
        if name in record and not _is_usage(record[name]):
            raise Unreadable(f"`{name}` has what is no count")


def _check_models(record: Mapping[str, Any]) -> None:
    for name in ("model", "chosen"):
        if (model := record.get(name)) is not None and not (
            isinstance(model.get("providerID"), str) and isinstance(model.get("id"), str)
        ):
            raise Unreadable(f"`{name}` names no model")
    if (python := record.get("python")) is not None:
        prefixes = python.get("prefixes")
        if not (isinstance(python.get("executable"), str) and isinstance(prefixes, list)):
            raise Unreadable("`python` names no interpreter")
    if (error := record.get("error")) is not None:
        data = error.get("data")
        if not (isinstance(error.get("name"), str) and isinstance(data, dict)):
            raise Unreadable("`error` is no error")


def _is_rule(rule: Any) -> bool:
    return (
        isinstance(rule, dict)
        and all(isinstance(rule.get(key), str) for key in _RULE)
        and rule["action"] in ("allow", "ask", "deny")
    )


def _is_usage(usage: Any) -> bool:
    if not isinstance(usage, dict) or usage.keys() - _USAGE:
        return False
    tokens = usage.get("tokens", {"cache": {}})
    tools = usage.get("tools", {})
    if not (isinstance(tokens, dict) and isinstance(tokens.get("cache"), dict)):
        return False
    if not isinstance(tools, dict) or not all(_is_count(n) for n in tools.values()):
        return False
    counts = [usage.get("messages", 0), usage.get("steps", 0)]
    if "tokens" in usage:
        counts += [tokens.get(name) for name in ("input", "output", "reasoning")]
        counts += [tokens["cache"].get(name) for name in ("read", "write")]
    optional = [usage.get(name) for name in ("cost", "context_used", "context_limit")]
    return all(_is_count(n) for n in counts) and all(n is None or _is_count(n) for n in optional)


def _is_count(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def title_in(data: Any) -> str:
    """What can be read of the title."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
    found = _TITLE.search(text)
    try:
        return str(json.loads(f'"{found[1]}"')) if found else "Damaged session"
    except ValueError:
        return "Damaged session"


def time_of_id(session_id: str) -> int:
    """The time in an id, in ms; 0 for one without."""
    digits = session_id.removeprefix("ses_")[:12]
    return int(digits, 16) if re.fullmatch(r"[0-9a-f]{12}", digits) else 0


def is_session_id(value: Any) -> bool:
    """Whether it is an id as sessions have, and so a name for a directory."""
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None


# -- messages


def sound_message(row_id: str, session_id: str, data: Any, *, is_prompt: bool) -> MessageInfoJSON:
    """The head of a message, one that says it can't be read where it can't."""
    try:
        info = decoded(data)
        _check_message(row_id, info)
    except Unreadable as error:
        stand_in: dict[str, Any] = {
            "id": row_id,
            "sessionID": session_id,
            "role": "user" if is_prompt else "assistant",
            "time": {"created": 0},
            "agent": "",
        }
        if not is_prompt:
            stand_in |= {
                "time": {"created": 0, "completed": 0},
                "tokens": {**_NO_TOKENS, "cache": {"read": 0, "write": 0}},
                "cost": 0.0,
                "error": _error(f"The head of this message can't be read: {error}."),
            }
        return cast(MessageInfoJSON, stand_in)
    return cast(MessageInfoJSON, info)


def _check_message(row_id: str, info: Mapping[str, Any]) -> None:
    if info.get("id") != row_id or not isinstance(info.get("sessionID"), str):
        raise Unreadable("it is another message's")
    if info.get("role") not in ("user", "assistant"):
        raise Unreadable("it has no role")
    time = info.get("time")
    if not (isinstance(time, dict) and all(_is_count(n) for n in time.values())):
        raise Unreadable("it has no time")
    if "parentID" in info and not isinstance(info["parentID"], str):
        raise Unreadable("it answers no message")
    if info["role"] == "assistant":
        tokens = info.get("tokens")
        if not _is_usage({"tokens": tokens} if tokens is not None else None):
            raise Unreadable("it has no counts")
        if not (info.get("cost") is None or _is_count(info["cost"])):
            raise Unreadable("its cost is no number")
    if (error := info.get("error")) is not None and not (
        isinstance(error, dict) and isinstance(error.get("data"), dict)
    ):
        raise Unreadable("its error is none")


_PART_TEXTS = {
    "text": ("text",),
    "reasoning": ("text",),
    "tool": ("tool", "callID"),
    "file": ("mime", "url"),
}


def sound_part(row_id: str, message_id: str, session_id: str, data: Any) -> PartJSON:
    """A part of a message, a text that says it can't be read where it can't."""
    try:
        part = decoded(data)
        _check_part(row_id, part)
    except Unreadable as error:
        return {
            "id": row_id,
            "sessionID": session_id,
            "messageID": message_id,
            "type": "text",
            "text": f"[This part of the message can't be read: {error}.]",
        }
    return cast(PartJSON, part)


def _check_part(row_id: str, part: Mapping[str, Any]) -> None:
    if part.get("id") != row_id or not isinstance(part.get("type"), str):
        raise Unreadable("it is another part's")
    if not (isinstance(part.get("messageID"), str) and isinstance(part.get("sessionID"), str)):
        raise Unreadable("it is no message's")
    for name in _PART_TEXTS.get(part["type"], ()):
        if not isinstance(part.get(name), str):
            raise Unreadable(f"its `{name}` is no text")
    if part["type"] in ("text", "reasoning") and not isinstance(part.get("time", {}), dict):
        raise Unreadable("its time is none")
    if part["type"] == "tool":
        _check_state(part.get("state"))


def _check_state(state: Any) -> None:
    if not isinstance(state, dict):
        raise Unreadable("its state is missing")
    if state.get("status") not in ("pending", "running", "completed", "error"):
        raise Unreadable("its state is unknown")
    if state["status"] == "completed" and not isinstance(state.get("output"), str):
        raise Unreadable("its output is missing")
    if state["status"] == "error" and not isinstance(state.get("error"), str):
        raise Unreadable("its error is missing")
    for name in ("input", "metadata", "time"):
        if name in state and not isinstance(state[name], dict):
            raise Unreadable(f"its {name} is of the wrong kind")
    if "time" in state and not all(_is_count(n) for n in state["time"].values()):
        raise Unreadable("its time is none")


def _error(message: str) -> dict[str, Any]:
    return {"name": "StoreDamagedError", "data": {"message": message}}
