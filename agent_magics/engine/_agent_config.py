"""Reading an agent's settings, from the configuration file or from a request's JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from json import dumps
from typing import TYPE_CHECKING, Any, cast

from ._agents import AgentProfile, Mode
from ._policy import Action, Rule

if TYPE_CHECKING:
    from ._body import Body

__all__ = ["AGENT_NAME", "AgentConfigError", "agent_profile", "agent_settings", "permission_rules"]

AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an agent may be called (match it in full)."""

_KEYS = ("model", "instructions", "temperature", "tools", "permission", "description", "mode")
_MODES = ("primary", "subagent", "all")
_ACTIONS = ("allow", "ask", "deny")
_LONGEST = 200_000
"""Characters of instructions."""
_HOTTEST = 2.0


class AgentConfigError(ValueError):
    """A setting that can't be used: `key` is its path below the agent's table."""

    def __init__(self, key: str, complaint: str) -> None:
        super().__init__(f"{key}: {complaint}")
        self.key = key
        self.complaint = complaint


def agent_profile(
    name: str, table: Mapping[str, Any], base: AgentProfile | None = None
) -> AgentProfile:
    """
    The agent `name` with the settings of `table`; what these don't say is as in `base`.

    Raises AgentConfigError.
    """
    if not AGENT_NAME.fullmatch(name):
        raise AgentConfigError("name", "use up to 64 letters, digits, '-', '_' and '.'")
    for key in table:
        if key not in _KEYS:
            raise AgentConfigError(key, f"unknown key; known are {', '.join(_KEYS)}")
    base = base or AgentProfile(name)
    tools, rules = _tools(table), permission_rules(table.get("permission"), "permission")
    return replace(
        base.also_with(_named(tools, rules)),
        model=_model(table, base.model),
        instructions=(*base.instructions, *_instructions(table)),
        temperature=_temperature(table, base.temperature),
        tools=(*base.tools, *tools),
        rules=(*base.rules, *rules),
        description=_text(table, "description", base.description),
        mode=_mode(table, base.mode),
    )


def agent_settings(body: Body) -> dict[str, Any] | None:
    """
    The `agentConfig` of a request, checked: an agent that exists in one session only.

    Its `name` is "custom" unless it says otherwise. Raises BadRequest.
    """
    found = body.object("agentConfig")
    if found is None:
        return None
    config = {"name": "custom", **{k: v for k, v in found.data.items() if v is not None}}
    try:
        dumps(config, ensure_ascii=False).encode()
        table = {key: value for key, value in config.items() if key != "name"}
        agent_profile(_text(config, "name", ""), table)
    except AgentConfigError as error:
        raise found.error(error.key, error.complaint) from None
    except UnicodeEncodeError:
        raise body.error("agentConfig", "has lone surrogates") from None
    return config


def permission_rules(value: Any, key: str) -> list[Rule]:
    """
    Rules from `{tool: action}`, `{tool: {pattern: action}}` or a list of whole rules.

    Raises AgentConfigError.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return [_rule(rule, f"{key}[{index}]") for index, rule in enumerate(value)]
    rules = []
    for tool, actions in _table(value, key).items():
        patterns = {"*": actions} if isinstance(actions, str) else actions
        for pattern, action in _table(patterns, f"{key}.{tool}").items():
            rules.append(Rule(tool, pattern, _action(action, f"{key}.{tool}")))
    return rules


def _rule(value: Any, key: str) -> Rule:
    rule = _table(value, key)
    for name in ("permission", "pattern"):
        if not isinstance(rule.get(name), str):
            raise AgentConfigError(f"{key}.{name}", "must be a text")
    return Rule(rule["permission"], rule["pattern"], _action(rule.get("action"), key))


def _action(value: Any, key: str) -> Action:
    if value not in _ACTIONS:
        raise AgentConfigError(key, f'{value!r} is not "allow", "ask" or "deny"')
    return cast(Action, value)


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AgentConfigError(key, "must be a table")
    return value


def _text(table: Mapping[str, Any], key: str, default: str) -> str:
    value = table.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise AgentConfigError(key, "must be a text")
    return value


def _model(table: Mapping[str, Any], default: str | None) -> str | None:
    name = _text(table, "model", "")
    if not name:
        return default
    provider, _, model = name.partition("/")
    if not (provider and model):
        raise AgentConfigError("model", f"{name!r} is not of the form provider/model-id")
    return name


def _instructions(table: Mapping[str, Any]) -> list[str]:
    value = table.get("instructions") or []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise AgentConfigError("instructions", "must be a text or a list of texts")
    if sum(map(len, texts)) > _LONGEST:
        raise AgentConfigError("instructions", f"have more than {_LONGEST} characters")
    return [text for text in texts if text.strip()]


def _temperature(table: Mapping[str, Any], default: float | None) -> float | None:
    value = table.get("temperature")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AgentConfigError("temperature", "must be a number")
    if not 0 <= value <= _HOTTEST:
        raise AgentConfigError("temperature", f"must be between 0 and {_HOTTEST:g}")
    return float(value)


def _tools(table: Mapping[str, Any]) -> list[tuple[str, bool]]:
    tools = _table(table.get("tools") or {}, "tools")
    for tool, on in tools.items():
        if not isinstance(on, bool):
            raise AgentConfigError(f"tools.{tool}", "must be true or false")
    return list(tools.items())


def _named(tools: list[tuple[str, bool]], rules: list[Rule]) -> list[str]:
    """The tools that the settings give to this agent by name, not by a pattern for all."""
    given = [tool for tool, on in tools if on]
    given += [rule.permission for rule in rules if rule.universal and rule.action != "deny"]
    return [tool for tool in given if tool.strip("*?")]


def _mode(table: Mapping[str, Any], default: Mode) -> Mode:
    value = _text(table, "mode", default)
    if value not in _MODES:
        raise AgentConfigError("mode", f"must be one of {', '.join(_MODES)}")
    return cast(Mode, value)
