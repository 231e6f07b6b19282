"""
`%agent_export`: a session's conversation as a file, `.md` and `.html` for people.

`.json` is for programs. It has all that the client knows of the messages; fields that have their
default are left out, as in recordings:

    {"format": "agent-magics-conversation", "version": 1,
     "session": {"id": "ses_...", "title": "...", ...},
     "messages": [{"info": {"id": "msg_...", "role": "user", ...},
                   "parts": [{"type": "text", "text": "...", ...}]}]}

None of them holds a key: the engine's configuration is no part of a conversation.
"""

from __future__ import annotations

import json
import uuid
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...widgets import (
    TODO_MARKS,
    attribute_text,
    clock,
    inert_markdown,
    page,
    page_text,
    readable,
    render_markdown,
    tool_blocks,
    tool_facts,
    tool_title,
    visible,
    without_escapes,
)
from ...wire import CompactionPart, FilePart, ReasoningPart, TextPart, ToolPart
from .._replay._codec import encoded
from .._text import fenced, one_line
from .._turn._wait import patiently
from ._workbench import Workbench

if TYPE_CHECKING:
    from ...wire import Message, MessageInfo, SessionInfo

__all__ = ["agent_export"]

FORMAT, VERSION = "agent-magics-conversation", 1

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.5rem .8rem;border-radius:4px;overflow:auto}"
    ":root{color-scheme:light dark}"
)


def agent_export(options: Namespace) -> Path:
    path = Path(options.file).expanduser()
    writers = {".html": _html, ".json": _json, ".md": _markdown}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"%agent_export: {path.name}: the name ends in {', '.join(writers)}")
    if path.exists() and not options.force:
        raise UsageError(f"{path} is there already: --force overwrites it")
    if not path.parent.is_dir():
        raise UsageError(f"%agent_export: there is no directory {path.parent}")
    session = Workbench().session(options.session)

    def export() -> Path:
        _write(path, write(session.get_info(), session.get_messages()))
        return path

    return patiently(export)


def _write(path: Path, text: str) -> None:
    """At once: the file is whole or as it was before."""
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, "utf-8", "surrogateescape")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _json(info: SessionInfo, messages: Sequence[Message]) -> str:
    head = {"format": FORMAT, "version": VERSION}
    return json.dumps({**head, "session": encoded(info), "messages": encoded(messages)}, indent=1)


def _markdown(info: SessionInfo, messages: Sequence[Message]) -> str:
    title = one_line(info.title or info.id)
    pieces = [f"# {title}", _facts(info, messages), *_sections(messages)]
    return inert_markdown("\n\n".join(pieces) + "\n")


def _html(info: SessionInfo, messages: Sequence[Message]) -> str:
    title = visible(info.title or info.id)
    sections = [_facts(info, messages), *_sections(messages)]
    body = "\n".join(render_markdown(section) for section in sections)
    whole = page(f"<h1>{page_text(title)}</h1>\n{body}")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{attribute_text(title)}</title>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><body>{whole}</body></html>\n"
    )


def _facts(info: SessionInfo, messages: Sequence[Message]) -> str:
    """What it was, where, and what it took."""
    found = [info.id, clock(info.time_created)]
    answers = [message.info for message in messages if message.info.role == "assistant"]
    if answers:
        tokens = [answer.tokens for answer in answers]
        found.append(f"{sum(t.input for t in tokens):,} tokens in")
        found.append(f"{sum(t.output for t in tokens):,} out")
        costs = [answer.cost for answer in answers if answer.cost is not None]
        if len(costs) == len(answers):
            found.append(f"${sum(costs):.4f}")
    return " · ".join(found)


def _sections(messages: Sequence[Message]) -> Iterator[str]:
    """Each message as Markdown; tools are fenced, so that nothing in them is taken for markup."""
    for message in messages:
        yield f"## {_who(message.info)}, {clock(message.info.time_created)}"
        for part in message.parts:
            if text := _part(part).strip("\n"):
                yield text
        if error := message.info.error:
            yield f"**{one_line(error.name)}**: {one_line(error.message)}"


def _who(info: MessageInfo) -> str:
    if info.summary:
        return "Summary of what was before"
    return "You" if info.role == "user" else f"Agent ({info.model})"


def _part(part: Any) -> str:
    match part:
        case TextPart():
            return "" if part.synthetic else readable(part.text)
        case ReasoningPart():
            return "\n".join(f"> {line}" for line in readable(part.text).splitlines())
        case ToolPart():
            return _plan(part) if part.is_shown_by_todos else _tool(part)
        case FilePart():
            return f"File: {_code(part.path or part.filename or part.mime)}"
        case CompactionPart():
            return "*What was said until here was summarized.*"
    return ""


def _tool(part: ToolPart) -> str:
    """A call: what it was about, how it went, its input and its result."""
    title = tool_title(part)
    facts = ", ".join(tool_facts(part))
    pieces = [
        f"**{one_line(part.tool)}**"
        + (f" {_code(title)}" if title else "")
        + (f" ({facts})" if facts else "")
    ]
    for block in tool_blocks(part):
        if block.kind in ("code", "diff"):
            kind = "diff" if block.kind == "diff" else "text"
            pieces += [*([f"{block.label}:"] if block.label else []), fenced(block.text, kind)]
        elif block.text != title:
            pieces.append(f"{block.label}: {_code(block.text)}".removeprefix(": "))
    if result := readable(without_escapes(part.state.output or part.state.error)):
        pieces += ["Result:", fenced(result)]
    return "\n\n".join(pieces)


def _plan(part: ToolPart) -> str:
    """The agent's plan as it put it down with this call; nothing for looking at it."""
    todos = part.state.input.get("todos")
    steps = [todo for todo in todos if isinstance(todo, dict)] if isinstance(todos, list) else []
    return "\n".join(
        f"- {TODO_MARKS.get(str(step.get('status')), '☐')} {one_line(str(step.get('content')))}"
        for step in steps
    )


def _code(text: str) -> str:
    """One line as inline code of Markdown that nothing in it can end."""
    line = one_line(visible(text))
    ticks = "`"
    while ticks in line:
        ticks += "`"
    space = " " if "`" in line else ""
    return f"{ticks}{space}{line}{space}{ticks}"
