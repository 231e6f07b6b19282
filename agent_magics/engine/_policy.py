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
    No pattern but the exact text allows a builtin that evaluates its arguments (`_programs`), or
    a command that names a protected path (`_protected`) as something to write.
`read`, `write`, `edit`
    The normalised absolute path in the container; patterns may be relative to `/workspace`.
    Rules for `edit` hold for `write` too. To allow a protected path a rule must name it, as
    `.git/*` or `.env` do, or be universal.
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
from ._programs import evaluates, scope, writes_protected_path
from ._protected import CHANGES_COMMANDS, is_protected, reader_of
from ._shell import CommandLine, SimpleCommand, analyse
from ._web_url import WebURLError, parse_web_url

__all__ = [
    "DEFAULT_RULES",
    "READ_ONLY",
    "Action",
    "Decision",
    "Rule",
    "decide",
    "is_offered_still",
    "limited",
]

Action = Literal["allow", "ask", "deny"]

READ_ONLY = "read-only"
"""In `limits` this stands for every tool of an MCP server that declares itself read-only."""

_STRICTNESS: dict[Action, int] = {"allow": 0, "ask": 1, "deny": 2}
_PROGRAM_PATTERN = re.compile(r"[A-Za-z0-9_./+-]+ \*")
_SEARCH_TOOLS = ("grep", "glob")
_NAMES_PROTECTED = "It names a file that changes what other commands do."
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

    Both are patterns for rules of this tool. `reason` is a sentence for the person who is asked,
    where the call alone does not show why.
    """

    action: Action
    patterns: tuple[str, ...]
    always: tuple[str, ...]
    reason: str = ""


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
        workdir = container_path(_text(arguments, "workdir") or WORKSPACE)
        return _decide_bash(covering, _text(arguments, "command"), workdir)
    if tool in ("write", "edit"):
        return _decide_edit(rules, covering, _text(arguments, "filePath"))
    if tool == "read":
        return _decide_path(covering, _text(arguments, "filePath"))
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
    *,
    read_only: bool = False,
) -> Decision:
    """
    `decision`, or a denial where one of `limits` (sets of rules for themselves) denies.

    `read_only`: the tool declares that it changes nothing.
    """
    for rules in limits:
        if read_only:
            rules = [_meant(rule, tool) for rule in rules]
        if decide((_FREE, *rules), tool, arguments).action == "deny":
            return replace(decision, action="deny")
    return decision


def _meant(rule: Rule, tool: str) -> Rule:
    return replace(rule, permission=glob.escape(tool)) if rule.permission == READ_ONLY else rule


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
    action = _last(rules, lambda rule: _matches_path(rule, path))
    always = f"{WORKSPACE}/*" if is_below(path, WORKSPACE) else glob.escape(path)
    return Decision(action, (path,), (always,))


def _decide_edit(rules: Sequence[Rule], covering: Sequence[Rule], argument: str) -> Decision:
    """`rules` are those of all tools: which commands are allowed decides what is protected."""
    path = container_path(argument)
    reason = "" if "\0" in argument else _why_protected(rules, path)
    if not reason:
        return _decide_path(covering, argument)
    action: Action = "ask"
    for rule in covering:
        if not _matches_path(rule, path):
            continue
        if rule.action != "allow" or rule.universal or _why_protected(rules, rule.pattern):
            action = rule.action
        elif action == "deny":
            action = "ask"
    return Decision(action, (path,), (glob.escape(path),), reason)


def _why_protected(rules: Sequence[Rule], path: str) -> str:
    """Why a file at `path`, or at paths of that pattern, is asked about; "" where it is free."""
    allowed = _allowed_commands(rules)
    if allowed is None:
        return ""
    if is_protected(path):
        return CHANGES_COMMANDS
    if (pattern := reader_of(path, allowed)) is not None:
        return f'Commands "{pattern}" are allowed, and this file decides what they do.'
    return ""


def _allowed_commands(rules: Iterable[Rule]) -> list[str] | None:
    """The patterns of commands that are allowed; None where all are, without exception."""
    allowed: list[str] = []
    everything = False
    for rule in rules:
        if not rule.covers("bash"):
            continue
        if rule.universal:
            everything = rule.action == "allow"
            allowed.clear()
        elif rule.action == "allow":
            allowed.append(rule.pattern)
        else:
            everything = False
    return None if everything else allowed


def _matches_path(rule: Rule, path: str) -> bool:
    if _glob(rule.pattern, path):
        return True
    return is_below(path, WORKSPACE) and _glob(rule.pattern, path.removeprefix(WORKSPACE + "/"))


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


def _decide_bash(rules: Sequence[Rule], command: str, workdir: str) -> Decision:
    line = analyse(command)
    if line.opaque:
        action = _bash_action(rules, line, [True] * len(line.commands))
        return Decision(action, (command,), (_exact(line),))
    allowed = _allowed_commands(rules) or ()
    touching = [writes_protected_path(found, workdir, allowed) for found in line.commands]
    exact = [t or evaluates(found) for t, found in zip(touching, line.commands, strict=True)]
    reason = _NAMES_PROTECTED if any(touching) else ""
    always = _always(line, exact[0])
    return Decision(_bash_action(rules, line, exact), (command,), (always,), reason)


def _bash_action(rules: Sequence[Rule], line: CommandLine, needs_exact: Sequence[bool]) -> Action:
    """`needs_exact`: for each command whether no pattern can mean it, as it may do more."""
    exact = (_exact(line), glob.escape(line.text))
    start = max((i for i, rule in enumerate(rules) if rule.pattern in exact), default=-1)
    action: Action = rules[start].action if start >= 0 else "ask"
    later = rules[start + 1 :]
    if not line.commands:
        return _command_action(action, later, line, None)
    answers = [
        _command_action(action, later, line, found, needs_exact=exact)
        for found, exact in zip(line.commands, needs_exact, strict=True)
    ]
    return max(answers, key=_STRICTNESS.__getitem__)


def _command_action(
    action: Action,
    rules: Sequence[Rule],
    line: CommandLine,
    command: SimpleCommand | None,
    *,
    needs_exact: bool = True,
) -> Action:
    """
    The answer for one command of the line, starting from `action`.

    Allowing needs certainty: only a universal rule allows an opaque line. Restricting does not:
    a rule that may apply makes the answer stricter, and a narrower rule after a universal one
    turns "allow" into "ask" where it can't be told whether it applies.
    """
    uncertain = line.opaque or command is None or command.launches
    for rule in rules:
        matches = command is not None and not line.opaque and _matches(rule.pattern, command)
        if rule.action == "allow":
            matches = matches and not needs_exact
        if rule.universal or matches:
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


def _always(line: CommandLine, needs_exact: bool) -> str:
    if line.simple and not needs_exact and (pattern := scope(line.commands[0])):
        return pattern
    return _exact(line)


def _exact(line: CommandLine) -> str:
    """The pattern for this very line: its text, unless a `*` in that would be taken for ours."""
    return glob.escape(line.text) if _is_plain(line.text) else line.text


def is_offered_still(tool: str, pattern: str) -> bool:
    """
    Whether an "always" answer can have this pattern.

    Earlier versions offered `python3 *` and `git *` as well; such answers don't hold any more.
    """
    if tool != "bash" or not _PROGRAM_PATTERN.fullmatch(pattern):
        return True
    return decide((), "bash", {"command": pattern.removesuffix(" *")}).always == (pattern,)


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
