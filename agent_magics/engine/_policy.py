"""
The permission policy: what a tool call may do. Pure functions, no I/O.

A rule names a tool, a pattern and an action; of all rules that match a call the last one wins.
What the pattern is held against depends on the tool:

`bash`
    Each simple command of the line by itself, so that `ls; rm -rf .` needs a rule for `ls` and
    one for `rm`. The strictest answer counts. A pattern that is itself more than one plain
    command allows exactly that text. Lines that can't be read with certainty (substitutions,
    subshells, redirections, assignments ...) are allowed by their exact text or by `*` alone,
    and a rule that denies or asks is applied to everything in them that looks like a command.
`read`, `write`, `edit`
    The normalised absolute path in the container; patterns may be relative to `/workspace`.
    Rules for `edit` hold for `write` too.
`grep`, `glob`
    The path that is searched.
`webfetch`
    The URL's host, with its port where that is not the usual one.
`network`
    The host and port that something in the container wants to reach: `host`, `host:port`,
    `host:*`, or the name of a group such as `packages`. To allow, a pattern without a port means
    80 and 443; to deny or ask it means every port.
`skill`
    The skill's name; those of the workspace are `workspace/NAME`.
`task`
    The name of the sub-agent.
others
    Nothing; only `*` matches.

In patterns `*` stands for any text and `?` for any character; `[` and the characters after it
mean a set, as in shell patterns. A pattern that ends in ` *` matches without arguments too.
The policy keeps honest agents on the path the user chose. The container is what holds others.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from agent_magics.sandbox import host_matches

from ._paths import WORKSPACE, container_path, is_below
from ._shell import CommandLine, SimpleCommand, analyse
from ._web_url import WebURLError, parse_web_url

__all__ = ["DEFAULT_RULES", "Action", "Decision", "Rule", "decide", "limited"]

Action = Literal["allow", "ask", "deny"]

_STRICTNESS: dict[Action, int] = {"allow": 0, "ask": 1, "deny": 2}
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./+-]+")
_PATH_ARGUMENTS = {"read": "filePath", "write": "filePath", "edit": "filePath"}
_SEARCH_TOOLS = ("grep", "glob")
_DEPTH = 20
"""How many words of a launcher's arguments are tried as the command it runs."""


@dataclass(frozen=True)
class Rule:
    """`permission` is the tool's name or a pattern of it."""

    permission: str
    pattern: str
    action: Action

    def covers(self, tool: str) -> bool:
        """Whether the rule is about `tool`."""
        if self.permission == "edit" and tool == "write":
            return True
        return fnmatch.fnmatchcase(tool, self.permission)

    @property
    def universal(self) -> bool:
        """Whether the pattern matches everything."""
        return self.pattern.strip("*") == "" and self.pattern != ""


@dataclass(frozen=True)
class Decision:
    """
    `patterns` is what the call wants now, `always` what an "always" answer would allow.

    Both are patterns for rules of this tool.
    """

    action: Action
    patterns: tuple[str, ...]
    always: tuple[str, ...]


DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("*", "*", "ask"),
    Rule("read", "*", "allow"),
    Rule("grep", "*", "allow"),
    Rule("glob", "*", "allow"),
    Rule("todowrite", "*", "allow"),
    Rule("todoread", "*", "allow"),
    Rule("artifact", "*", "allow"),
    Rule("batch", "*", "allow"),
    Rule("skill", "*", "allow"),
    Rule("skill", "workspace/*", "ask"),
    Rule("task", "*", "allow"),
    Rule("edit", "*", "deny"),
    Rule("edit", f"{WORKSPACE}/*", "allow"),
    Rule("edit", "/tmp/*", "allow"),
)
"""
Reading, todos, artifacts, the user's skills, sub-agents and batches (whose calls are judged for
themselves) and edits in `/workspace` and `/tmp` are free; everything else asks.
"""


_FREE = Rule("*", "*", "allow")


def decide(rules: Sequence[Rule], tool: str, arguments: Mapping[str, Any]) -> Decision:
    """
    What `rules` say about a call of `tool` with `arguments`, in the order of precedence.

    Never raises: missing arguments and arguments of the wrong type count as empty text.
    """
    covering = [rule for rule in rules if rule.covers(tool)]
    if tool == "bash":
        return _decide_bash(covering, _text(arguments, "command"))
    if tool in _PATH_ARGUMENTS:
        return _decide_path(covering, _text(arguments, _PATH_ARGUMENTS[tool]))
    if tool in _SEARCH_TOOLS:
        return _decide_path(covering, _text(arguments, "path") or WORKSPACE)
    if tool == "skill":
        name = _text(arguments, "name")
        action = _last(covering, lambda rule: _glob(rule.pattern, name))
        return Decision(action, (name,), (glob.escape(name),))
    if tool == "network":
        return _decide_network(covering, _text(arguments, "host"), arguments.get("port"))
    if tool == "webfetch":
        return _decide_web(covering, _text(arguments, "url"))
    if tool == "task":
        name = _text(arguments, "subagent_type")
        action = _last(covering, lambda rule: _glob(rule.pattern, name))
        return Decision(action, (name,), (glob.escape(name),))
    action = _last(covering, lambda rule: rule.universal)
    return Decision(action, ("*",), ("*",))


def limited(
    limits: Iterable[Sequence[Rule]],
    decision: Decision,
    tool: str,
    arguments: Mapping[str, Any],
) -> Decision:
    """`decision`, or a denial where one of `limits` (sets of rules for themselves) denies."""
    for rules in limits:
        if decide((_FREE, *rules), tool, arguments).action == "deny":
            return replace(decision, action="deny")
    return decision


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""


def _last(rules: Iterable[Rule], matches: Callable[[Rule], bool]) -> Action:
    action: Action = "ask"
    for rule in rules:
        if matches(rule):
            action = rule.action
    return action


# Paths


def _decide_path(rules: Sequence[Rule], argument: str) -> Decision:
    path = container_path(argument)
    if "\0" in argument:
        return Decision("deny", (path,), ())
    relative = path.removeprefix(WORKSPACE + "/") if is_below(path, WORKSPACE) else None

    def matches(rule: Rule) -> bool:
        if _glob(rule.pattern, path):
            return True
        return relative is not None and _glob(rule.pattern, relative)

    always = f"{WORKSPACE}/*" if relative is not None else glob.escape(path)
    return Decision(_last(rules, matches), (path,), (always,))


# Web pages


def _decide_web(rules: Sequence[Rule], url: str) -> Decision:
    try:
        site = parse_web_url(url).site
    except WebURLError:  # the tool says what is wrong with it
        return Decision(_last(rules, lambda rule: rule.universal), (url,), ())
    action = _last(rules, lambda rule: _glob(rule.pattern, site))
    return Decision(action, (url,), (glob.escape(site),))


def _decide_network(rules: Sequence[Rule], host: str, port: Any) -> Decision:
    number = port if isinstance(port, int) else 0
    site = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    action = _last(
        rules,
        lambda rule: host_matches(rule.pattern, host, number, any_port=rule.action != "allow"),
    )
    return Decision(action, (site,), (glob.escape(site),))


# Shell commands


def _decide_bash(rules: Sequence[Rule], command: str) -> Decision:
    line = analyse(command)
    return Decision(_bash_action(rules, line), (command,), (_always(line),))


def _bash_action(rules: Sequence[Rule], line: CommandLine) -> Action:
    exact = (line.text, glob.escape(line.text))
    start = max((i for i, rule in enumerate(rules) if rule.pattern in exact), default=-1)
    action: Action = rules[start].action if start >= 0 else "ask"
    later = rules[start + 1 :]
    if not line.commands:
        return _command_action(action, later, line, None)
    answers = [_command_action(action, later, line, command) for command in line.commands]
    return max(answers, key=_STRICTNESS.__getitem__)


def _command_action(
    action: Action, rules: Sequence[Rule], line: CommandLine, command: SimpleCommand | None
) -> Action:
    """
    The answer for one command of the line, starting from `action`.

    Allowing needs certainty: only a universal rule allows an opaque line. Restricting does not:
    a rule that may apply makes the answer stricter, and a narrower rule after a universal one
    turns "allow" into "ask" where it can't be told whether it applies.
    """
    uncertain = line.opaque or command is None or command.launches
    for rule in rules:
        if rule.universal or (not line.opaque and command and _matches(rule.pattern, command)):
            action = rule.action
        elif rule.action == "allow":
            continue
        elif _could_match(rule.pattern, line, command):
            action = max(action, rule.action, key=_STRICTNESS.__getitem__)
        elif uncertain and action == "allow":
            action = "ask"
    return action


def _matches(pattern: str, command: SimpleCommand) -> bool:
    """Whether the pattern surely means this command, quoted or not."""
    if not _is_plain(pattern):
        return False
    return _glob(pattern, command.raw) and _glob(pattern, command.plain)


def _could_match(pattern: str, line: CommandLine, command: SimpleCommand | None) -> bool:
    """Whether the pattern may mean this command: in any spelling, also below a launcher."""
    spellings = [line.text]
    if command is not None:
        name, _, arguments = command.plain.partition(" ")
        bare = f"{name.rpartition('/')[2]} {arguments}".rstrip()
        spellings += [command.raw, command.plain, bare]
        if command.launches:
            words = command.plain.split(" ")
            spellings += [" ".join(words[i:]) for i in range(1, min(len(words), _DEPTH))]
    return any(_glob(pattern, spelling) for spelling in spellings)


def _always(line: CommandLine) -> str:
    if not line.simple:
        return line.text
    command = line.commands[0]
    safe = _SAFE_NAME.fullmatch(command.name) and command.raw.startswith(command.name)
    if safe and not command.launches:
        return f"{command.name} *"
    return glob.escape(line.text)


@lru_cache(maxsize=1024)
def _is_plain(pattern: str) -> bool:
    """
    Whether a `bash` pattern stands for one plain command.

    All others are texts of whole lines: a `*` in them is the shell's, not ours.
    """
    without_wildcards = re.sub(r"[*?\[\]]", "x", pattern)
    return analyse(without_wildcards).simple


# Patterns


def _glob(pattern: str, text: str) -> bool:
    if pattern.endswith(" *") and text == pattern[:-2]:
        return True
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern), re.DOTALL)
