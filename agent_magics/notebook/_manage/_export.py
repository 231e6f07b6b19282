"""`%agent_export`: a session's conversation as a file for people or programs."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...widgets import clock, render_markdown, visible, without_escapes
from ...wire import FilePart, ReasoningPart, TextPart, ToolPart
from .._text import fenced
from .._turn._wait import patiently
from ._workbench import Workbench

if TYPE_CHECKING:
    from ...wire import Message, SessionInfo

__all__ = ["agent_export"]

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
    session = Workbench().session(options.session)

    def export() -> Path:
        text = write(session.get_info(), session.get_messages())
        path.write_text(text, "utf-8", "surrogateescape")
        return path

    return patiently(export)


def _json(info: SessionInfo, messages: Sequence[Message]) -> str:
    data = {
        "session": dataclasses.asdict(info),
        "messages": [_as_dict(message) for message in messages],
    }
    return json.dumps(data, indent=1, default=str) + "\n"


def _as_dict(message: Message) -> dict[str, Any]:
    parts = [{"type": part.type, **dataclasses.asdict(part)} for part in message.parts]
    return {"info": dataclasses.asdict(message.info), "parts": parts}


def _markdown(info: SessionInfo, messages: Sequence[Message]) -> str:
    return "\n\n".join([f"# {info.title or info.id}", *_sections(messages)]) + "\n"


def _html(info: SessionInfo, messages: Sequence[Message]) -> str:
    title = escape(visible(info.title or info.id))
    body = "\n".join(render_markdown(section) for section in _sections(messages))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>\n{body}</html>\n"
    )


def _sections(messages: Sequence[Message]) -> Iterator[str]:
    """Each message as Markdown; tools are fenced, so that nothing in them is taken for markup."""
    for message in messages:
        who = "You" if message.info.role == "user" else f"Agent ({message.info.model})"
        if message.info.summary:
            who = "Summary of what was before"
        yield f"## {who}, {clock(message.info.time_created)}"
        for part in message.parts:
            if text := _part(part):
                yield text
        if message.info.error is not None:
            yield f"**{message.info.error.name}**: {message.info.error.message}"


def _part(part: Any) -> str:
    match part:
        case TextPart():
            return "" if part.synthetic else visible(part.text)
        case ReasoningPart():
            return "\n".join(f"> {line}" for line in visible(part.text).splitlines())
        case ToolPart():
            state = part.state
            given = json.dumps(dict(state.input), indent=1, ensure_ascii=False)
            result = without_escapes(state.output or state.error)
            head = f"**{part.tool}** {state.title} ({state.status})"
            return (
                f"{visible(head)}\n\n{fenced(visible(given), 'json')}\n\n{fenced(visible(result))}"
            )
        case FilePart():
            return f"File: {visible(part.path or part.filename or part.mime)}"
    return ""
