"""Short words for what a turn does, shared by the live view and the static record."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from typing import Any

from ..wire import PermissionRequest, ToolPart
from ._changes import Block, change_blocks, changed_lines
from ._progress import duration
from ._record import AskItem, ToolItem
from ._visible import readable, terminal_text, visible

__all__ = [
    "TODO_MARKS",
    "always_label",
    "ask_blocks",
    "ask_title",
    "exit_code",
    "reply_words",
    "tool_blocks",
    "tool_facts",
    "tool_mark",
    "tool_output",
    "tool_title",
]

TODO_MARKS = {"completed": "☑", "in_progress": "◐", "cancelled": "☒"}
_REPLIES = {
    "once": "allowed once",
    "always": "always allowed in this session",
    "reject": "rejected",
    "cancelled": "not answered",
}
_KINDS = {
    "bash": "run a command",
    "write": "write a file",
    "edit": "change a file",
    "webfetch": "fetch a web page",
    "skill": "load a skill",
}
_EVERYTHING = {
    "bash": "every command",
    "write": "every write of a file",
    "edit": "every change of a file",
    "webfetch": "every web page",
    "network": "every site",
}


def tool_title(part: ToolPart) -> str:
    """What the call is about: its title, else its most telling argument."""
    state = part.state
    if state.title:
        return visible(state.title)
    for name in ("description", "command", "filePath", "pattern", "path"):
        value = state.input.get(name)
        if isinstance(value, str) and value:
            return visible(value.split("\n", 1)[0])
    return ""


def tool_facts(part: ToolPart) -> list[str]:
    """Status, exit code and duration."""
    state = part.state
    words = {"pending": "preparing", "running": "running", "completed": "", "error": "failed"}
    found = [words.get(state.status, visible(state.status))]
    if state.status == "pending" and state.input:  # complete, but not allowed yet
        found = ["waiting"]
    if code := exit_code(part):
        found.append(f"exit code {code}")
    if changed := changed_lines(state.metadata):
        found.append(changed)
    calls = state.metadata.get("toolCalls")
    if part.tool == "task" and isinstance(calls, int):
        found.append(f"{calls} tool call{'' if calls == 1 else 's'}")
    if state.time_start is not None and state.time_end is not None:
        seconds = (state.time_end - state.time_start) / 1000
        if seconds >= 0.1:
            found.append(duration(seconds))
    return [fact for fact in found if fact]


def exit_code(part: ToolPart) -> int:
    """The exit code of the call's command; 0 when there is none."""
    code = part.state.metadata.get("exit")
    return code if isinstance(code, int) else 0


def tool_mark(part: ToolPart) -> str:
    """How the call went, in one character."""
    if part.state.status == "completed":
        return "!" if exit_code(part) else "✓"
    return {"pending": "○", "running": "●", "error": "✕"}.get(part.state.status, "·")


def tool_blocks(part: ToolPart) -> list[Block]:
    """The call's input, as a person wants to read it."""
    return _input_blocks(part.tool, part.state.input, part.state.metadata)


def tool_output(item: ToolItem) -> str:
    """The call's result or error, made visible."""
    state = item.part.state
    output = terminal_text(item.output)
    if item.dropped and not state.output:
        output = f"[{item.dropped} earlier characters are not kept]\n{output}"
    error = terminal_text(state.error)
    return f"{output}\n{error}".strip("\n") if error and output else output or error


def ask_title(request: PermissionRequest) -> str:
    """Who asks for what and, for a command, where that would run."""
    if request.permission == "network":
        return _network_title(request)
    kind = _KINDS.get(request.permission, "use " + visible(request.permission))
    where = ""
    if request.permission == "bash":
        given = request.metadata.get("workdir")
        where = f" in {visible(given) if isinstance(given, str) and given else '/workspace'}"
    asker = visible(request.asker_capitalized).replace("\n", " ")
    return f"{asker} asks to {kind}{where}"


def _network_title(request: PermissionRequest) -> str:
    site = ", ".join(visible(pattern) for pattern in request.patterns)
    of = "" if request.parent_id is None else f" of {visible(request.asker)}".replace("\n", " ")
    who = "A command" if request.call_id else "A background process"
    return f"{who}{of} in the container wants to reach {site}"


def ask_blocks(request: PermissionRequest) -> list[Block]:
    """Everything that the permission would allow; nothing is cut."""
    if request.permission == "network":  # the title says it all
        return []
    blocks = _input_blocks(request.permission, request.metadata, {})
    shown = "\n".join(block.text for block in blocks)
    rest = [visible(p) for p in request.patterns if visible(p) not in shown]
    why = [Block("", visible(request.reason), "words")] if request.reason else []
    return [*why, *blocks, *(Block("", pattern) for pattern in rest)]


def always_label(request: PermissionRequest) -> str:
    """The scope of an "always": what exactly will not be asked again."""
    if not request.always:
        return ""
    if "*" in request.always:
        what = _EVERYTHING.get(request.permission, "every use of " + visible(request.permission))
    elif request.always in _exact(request):
        what = "exactly this command"
    else:
        what = ", ".join(f'"{visible(pattern)}"' for pattern in request.always)
    return f"Always allow {what} in this session"


def _exact(request: PermissionRequest) -> tuple[tuple[str, ...], ...]:
    """What `always` is where it means the command itself and nothing else."""
    command = request.metadata.get("command")
    if request.permission != "bash" or not isinstance(command, str):
        return ()
    return (command,), (glob.escape(command),)


def reply_words(item: AskItem) -> str:
    """How a request was answered."""
    if not item.reply:
        return "not answered"
    words = _REPLIES.get(item.reply, visible(item.reply))
    return f"{words}: {readable(item.reason)}" if item.reason and item.reply == "reject" else words


def _input_blocks(
    tool: str, arguments: Mapping[str, Any], metadata: Mapping[str, Any]
) -> list[Block]:
    left = {k: v for k, v in arguments.items() if v not in (None, "", [], {})}
    blocks = []
    whole = {"bash": "command", "task": "prompt"}.get(tool, "")
    if isinstance(left.get(whole), str):
        description = left.pop("description", None)
        if isinstance(description, str):
            blocks.append(Block("", visible(description), "words"))
        blocks.append(Block("", visible(left.pop(whole))))
    elif tool in ("write", "edit") and isinstance(left.get("filePath"), str):
        path = left.pop("filePath")
        blocks.append(Block("", visible(path), "line"))
        blocks += change_blocks(path, left, metadata)
    for name, value in left.items():
        text = value if isinstance(value, str) else repr(value)
        kind = "code" if "\n" in text or len(text) > 80 else "line"
        blocks.append(Block(visible(name), visible(text), kind))
    return blocks
