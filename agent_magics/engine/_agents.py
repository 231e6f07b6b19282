"""
Agents: what the model is told, which tools it gets and what these may do.

An agent is a name with a few settings on top of the engine's own. Four are built in, the
configuration and a session's creation may change them or add others. What an agent's rules deny,
no other rule and no answer of a person allows: `plan` stays read-only whatever was said before,
and so do the sub-agents that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from ._errors import AgentNotFound
from ._policy import READ_ONLY, Rule

__all__ = ["BUILD", "BUILT_IN", "AgentBook", "AgentProfile", "Mode"]

Mode = Literal["primary", "subagent", "all"]

_LOOKING = (
    *("cat", "cmp", "df", "diff", "du", "grep", "head", "ls", "md5sum", "pwd"),
    *("sha256sum", "stat", "tail", "wc"),
)
"""Commands that can't change anything, whatever their arguments."""

_HARMLESS = (
    *("batch", "glob", "grep", "network", "read", "skill", "task", "todoread", "todowrite"),
    *("webfetch", READ_ONLY),
)
_READ_ONLY = (
    Rule("*", "*", "deny"),
    *(Rule(tool, "*", "allow") for tool in _HARMLESS),
    Rule("artifact", "*", "deny"),
    Rule("edit", "*", "deny"),
    Rule("bash", "*", "deny"),
    *(Rule("bash", f"{command} *", "allow") for command in _LOOKING),
)

_READ_ONLY_TEXT = f"""\
You only look; you change nothing. You have no tools to write or edit files, none of MCP servers \
but those that only read or that the user named for you, and of all commands \
only these can run: {", ".join(_LOOKING)}. Do not look for ways around that. Use read, grep and \
glob where they do."""

_PLAN_TEXT = """\
Your task is to plan. Find out what you need to know, then answer with a plan: the steps in order, \
the files and functions they touch, how each can be checked, and what is open. Somebody else \
carries it out after the user has agreed."""

_EXPLORE_TEXT = """\
Your task is to find things out: where something is, how it works, what depends on it. Answer \
with what you found, with paths and line numbers, and say what you looked for in vain."""


@dataclass(frozen=True)
class AgentProfile:
    """
    One agent. `model` is `provider/model-id` or None for the session's.

    `instructions` follow the engine's own. `tools` switches tools off and on by name or pattern,
    the last match counts, tools that nothing matches are on. `rules` are permission rules that
    stand after the configuration's; `limits` are rules of which only the denials count.
    """

    name: str
    description: str = ""
    mode: Mode = "all"
    native: bool = False
    model: str | None = None
    instructions: tuple[str, ...] = ()
    temperature: float | None = None
    tools: tuple[tuple[str, bool], ...] = ()
    rules: tuple[Rule, ...] = ()
    limits: tuple[Rule, ...] = ()

    def offers(self, tool: str) -> bool:
        """Whether this agent has the tool at all."""
        offered = True
        for pattern, on in self.tools:
            if fnmatchcase(tool, pattern):
                offered = on
        return offered

    def also_with(self, tools: list[str]) -> AgentProfile:
        """This agent, with limits that leave it these tools of MCP servers (or patterns), too."""
        if not self.limits:
            return self
        everything, *others = self.limits
        named = (Rule(tool, "*", "allow") for tool in tools)
        return replace(self, limits=(everything, *named, *others))

    @property
    def denials(self) -> list[tuple[Rule, ...]]:
        """
        Sets of rules, each complete in itself.

        What one of them denies is denied to this agent and to its sub-agents, whatever else says.
        """
        switches = (Rule(tool, "*", "allow" if on else "deny") for tool, on in self.tools)
        return [rules for rules in (self.limits, self.rules, tuple(switches)) if rules]

    @property
    def delegable(self) -> bool:
        """Whether the `task` tool may start it."""
        return self.mode in ("subagent", "all")

    def settings(self, of_model: dict[str, Any] | None) -> dict[str, Any] | None:
        """What goes with every request to the model."""
        if self.temperature is None:
            return of_model
        return {**(of_model or {}), "temperature": self.temperature}

    def to_json(self, common: tuple[Rule, ...]) -> dict[str, Any]:
        """opencode's shape; `common` are the rules that hold for every agent."""
        off = (Rule(tool, "*", "deny") for tool, on in self.tools if not on)
        permission = [*common, *self.rules, *self.limits, *off]
        data: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "mode": self.mode,
            "native": self.native,
            "permission": [asdict(rule) for rule in dict.fromkeys(permission)],
            "options": {},
        }
        if self.model is not None:
            provider, _, model = self.model.partition("/")
            data["model"] = {"providerID": provider, "modelID": model}
        if self.temperature is not None:
            data["temperature"] = self.temperature
        if self.instructions:
            data["prompt"] = "\n\n".join(self.instructions)
        return data


_NO_WRITING = (("write", False), ("edit", False), ("artifact", False))

BUILD = AgentProfile(
    name="build",
    description="Works in the session's container with the tools that its rules permit.",
    mode="primary",
    native=True,
)

BUILT_IN: Mapping[str, AgentProfile] = {
    agent.name: agent
    for agent in (
        BUILD,
        AgentProfile(
            name="plan",
            description="Looks around and plans, read-only.",
            mode="primary",
            native=True,
            instructions=(_READ_ONLY_TEXT, _PLAN_TEXT),
            tools=_NO_WRITING,
            limits=_READ_ONLY,
        ),
        AgentProfile(
            name="general",
            description="Does a piece of work of several steps by itself, with all tools.",
            mode="subagent",
            native=True,
        ),
        AgentProfile(
            name="explore",
            description="Searches and reads files to answer a question about them, read-only.",
            mode="subagent",
            native=True,
            instructions=(_READ_ONLY_TEXT, _EXPLORE_TEXT),
            tools=_NO_WRITING,
            limits=_READ_ONLY,
        ),
    )
}


class AgentBook:
    """All agents by name: the built-in ones, changed or joined by the configuration's."""

    def __init__(self, configured: Mapping[str, AgentProfile] | None = None) -> None:
        self._agents = {**BUILT_IN, **(configured or {})}

    def __iter__(self) -> Iterator[AgentProfile]:
        return iter(self._agents.values())

    def get(self, name: str, also: AgentProfile | None = None) -> AgentProfile:
        """
        The agent called `name`; `also` is one that exists only here and wins.

        Raises AgentNotFound, which names those that exist.
        """
        if also is not None and also.name == name:
            return also
        if name not in self._agents:
            names = sorted({*self._agents, *([also.name] if also else [])})
            raise AgentNotFound(
                f"There is no agent {name!r}. There are: {', '.join(names)}.",
                agent=name,
                agents=names,
            )
        return self._agents[name]

    def find(self, name: str) -> AgentProfile | None:
        return self._agents.get(name)

    def delegable(self) -> list[AgentProfile]:
        """Those that the `task` tool may start."""
        return [agent for agent in self if agent.delegable]
