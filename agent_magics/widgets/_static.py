"""
The turn as it is saved in the notebook: HTML that is safe by itself, plain text, and facts.

The HTML has no script, no style sheet and no address that would be fetched; it reads in light and
dark themes, through JupyterLab's sanitiser, in exported pages and on code hosts.
"""

from __future__ import annotations

import base64
from typing import Any

from ..wire import FilePart, ToolPart
from ._changes import Block
from ._describe import (
    TODO_MARKS,
    ask_blocks,
    ask_title,
    reply_words,
    tool_blocks,
    tool_facts,
    tool_mark,
    tool_output,
    tool_title,
)
from ._markdown import render_markdown
from ._page import attribute_text, code_text, page, page_text
from ._progress import count, duration, facts, status_words
from ._record import (
    AskItem,
    ImageItem,
    Item,
    NoteItem,
    TextItem,
    ThinkItem,
    TodosItem,
    ToolItem,
    TurnRecord,
)
from ._visible import readable, visible

__all__ = ["IMAGE_TYPES", "data_url", "record_html", "record_json", "record_text"]

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})

_LIMIT = 4_000_000
"""Characters of HTML that a saved turn may have."""
_OUTPUT_LIMIT = 300_000
_INPUT_LIMIT = 100_000
_FOLDED = 35
"""Lines up to which a text is shown at once; of a longer one its head and its tail are."""
_SHOWN = (20, 10)

_SMALL = "font-size:.9em;opacity:.8"
_BADGE = "background:#b71c1c;border-radius:3px;color:#fff;font-weight:600;padding:0 6px"
_BOX = (
    "border:1px solid rgba(127,127,127,.35);border-radius:6px;margin:6px 0;padding:4px 10px;"
    "overflow-wrap:anywhere"
)
_PRE = (
    "background:rgba(127,127,127,.12);border-radius:4px;margin:4px 0;padding:6px 8px;"
    "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;font-size:.9em;color:inherit"
)
_NOTES = {"info": "127,127,127", "warning": "237,137,0", "error": "211,47,47"}
_TODOS = {
    "completed": "opacity:.8",
    "in_progress": "font-weight:600",
    "cancelled": "opacity:.8;text-decoration:line-through",
}
_DIFF = {"+": "rgba(46,160,67,.22)", "-": "rgba(218,54,51,.22)", "@": "rgba(127,127,127,.22)"}


def data_url(mime: str, data: bytes) -> str:
    """A `data:` URL for an `<img>`, where even SVG is inert. Unknown types become PNG."""
    kind = mime if mime in IMAGE_TYPES else "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def record_html(record: TurnRecord, limit: int = _LIMIT) -> str:
    """The whole turn as HTML of at most about `limit` characters; what is cut says so."""
    pieces = [_head(record)]
    left = limit - len(pieces[0])
    for item in record.items.values():
        if _is_hidden(record, item):
            continue
        piece = _item_html(item, left)
        if len(piece) > left:
            piece = _note_html(f"Too large for the saved notebook: {_name(item)}.", "warning")
        pieces.append(piece)
        left -= len(piece)
    return page("".join(pieces), "line-height:1.5;padding:0 4px")


def _is_hidden(record: TurnRecord, item: Item) -> bool:
    if isinstance(item, ToolItem):
        return item.quiet
    return isinstance(item, ThinkItem) and not record.show_reasoning


def _head(record: TurnRecord) -> str:
    is_told = record.outcome or record.silence
    words = [status_words(record) if is_told else "", duration(record.elapsed)]
    items = [visible(record.model), *(word for word in words if word), *facts(record)]
    line = " · ".join(item for item in items if item)
    badge = ""
    if not record.isolated:
        badge = f'<b style="{_BADGE}">not isolated: commands ran on this computer itself</b>'
    line = f'<span style="{_SMALL}">{page_text(line)}</span>'
    return f'<div style="margin:2px 0 6px">{line} {badge}</div>'


def _item_html(item: Item, left: int) -> str:
    match item:
        case TextItem():
            text = item.text
            cut = len(text) > left // 2
            body = render_markdown(text[: left // 2])
            return body + (_note_html("The text is cut here.", "warning") if cut else "")
        case ThinkItem():
            body = _pre(readable(item.text), _OUTPUT_LIMIT)
            head = f'<details style="{_SMALL};margin:4px 0"><summary>Reasoning</summary>'
            return f"{head}{body}</details>"
        case ToolItem():
            return _tool_html(item)
        case AskItem():
            return _ask_html(item)
        case TodosItem():
            return _todos_html(item)
        case ImageItem():
            name = visible(item.name)
            label = attribute_text(name)
            source = data_url(item.mime, item.data)
            return (
                f'<div style="margin:6px 0"><img alt="{label}" title="{label}" src="{source}" '
                f'style="max-width:100%"><div style="{_SMALL}">{page_text(name)}</div></div>'
            )
        case NoteItem():
            return _note_html(item.text, item.kind)


def _tool_html(item: ToolItem) -> str:
    part = item.part
    title, details = _code_line(tool_title(part)), page_text(" · ".join(tool_facts(part)))
    blocks = "".join(_block_html(block) for block in tool_blocks(part))
    output = tool_output(item)
    result = _pre(output, _OUTPUT_LIMIT) if output else ""
    return (
        f'<details style="{_BOX}"><summary>{tool_mark(part)} '
        f"<b>{page_text(visible(part.tool))}</b> "
        f'{title} <span style="{_SMALL}">{details}</span></summary>{blocks}{result}</details>'
    )


def _ask_html(item: AskItem) -> str:
    blocks = "".join(_block_html(block) for block in ask_blocks(item.request))
    words = reply_words(item)
    return (
        f'<details style="{_BOX}"><summary>{page_text(ask_title(item.request))}: '
        f"<b>{page_text(words)}</b></summary>{blocks}</details>"
    )


def _todos_html(item: TodosItem) -> str:
    rows = []
    for todo in item.todos:
        mark = TODO_MARKS.get(todo.status, "☐")
        style = _TODOS.get(todo.status, "")
        rows.append(
            f'<div style="margin:1px 0">{mark} '
            f'<span style="{style}">{page_text(readable(todo.content))}</span></div>'
        )
    return f'<div style="{_BOX}">{"".join(rows)}</div>' if rows else ""


def _note_html(text: str, kind: str) -> str:
    colour = _NOTES.get(kind, _NOTES["info"])
    style = f"border-left:4px solid rgb({colour});margin:6px 0;padding:2px 10px"
    body = page_text(readable(text))
    return f'<div style="{style};white-space:pre-wrap;overflow-wrap:anywhere">{body}</div>'


def _block_html(block: Block) -> str:
    label = f'<div style="{_SMALL}">{page_text(block.label)}</div>' if block.label else ""
    if block.kind == "words":
        return f"{label}<div>{page_text(block.text)}</div>"
    if block.kind == "line":
        return f"{label}<div>{_code_line(block.text)}</div>"
    return label + _pre(block.text, _INPUT_LIMIT, block.kind)


def _code_line(text: str) -> str:
    return f'<code style="background:none;padding:0">{code_text(text)}</code>'


def _diff_rows(text: str) -> str:
    """Each line with its sign, so that it can be read without colours, too."""
    rows = []
    for line in text.split("\n"):
        colour = _DIFF.get(line[:1])
        style = f"display:block;background:{colour}" if colour else "display:block"
        rows.append(f'<span style="{style}">{code_text(line)}\n</span>')
    return "".join(rows)


def _pre(text: str, limit: int, kind: str = "code") -> str:
    """A block of code; of a long one the beginning and the end, what is between them folded."""
    shown = _diff_rows if kind == "diff" else code_text
    text = _clipped(text, limit)
    lines = text.split("\n")
    if len(lines) <= _FOLDED:
        return f'<pre style="{_PRE}">{shown(text)}</pre>'
    head, tail = _SHOWN
    pieces = ("\n".join(part) for part in (lines[:head], lines[head:-tail], lines[-tail:]))
    first, folded, last = (f'<pre style="{_PRE}">{shown(piece)}</pre>' for piece in pieces)
    more = count(len(lines) - head - tail, "more line")
    return (
        f'{first}<details><summary style="{_SMALL}">Show {more}</summary>{folded}</details>{last}'
    )


def _clipped(text: str, limit: int) -> str:
    """Head and tail of a text that is too long, and how much is missing."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    missing = len(text) - head - tail
    return f"{text[:head]}\n[… {missing} characters are not kept here …]\n{text[-tail:]}"


def _name(item: Item) -> str:
    match item:
        case ImageItem():
            return f"{visible(item.name)} ({len(item.data)} bytes)"
        case ToolItem():
            return f"a call of {visible(item.part.tool)}"
        case AskItem():
            return "a permission request"
        case _:
            return "a part of the transcript"


def record_text(record: TurnRecord) -> str:
    """The turn as plain text, for readers without HTML."""
    pieces = []
    for item in record.items.values():
        if _is_hidden(record, item):
            continue
        match item:
            case TextItem():
                pieces.append(readable(item.text).strip())
            case ToolItem():
                details = ", ".join(tool_facts(item.part))
                line = f"[{visible(item.part.tool)}] {tool_title(item.part)}"
                pieces.append(f"{line} ({details})" if details else line)
            case AskItem():
                what = ", ".join(visible(p) for p in item.request.patterns)
                if item.request.parent_id is not None:
                    what = f"{what} for {visible(item.request.asker)}"
                words = reply_words(item)
                pieces.append(f"[permission] {visible(item.request.permission)} {what}: {words}")
            case TodosItem():
                pieces.append(
                    "\n".join(
                        f"{TODO_MARKS.get(t.status, '☐')} {readable(t.content)}" for t in item.todos
                    )
                )
            case ImageItem():
                pieces.append(f"[image] {visible(item.name)}")
            case NoteItem():
                pieces.append(f"[{item.kind}] {readable(item.text)}")
            case ThinkItem():
                pieces.append(f"[reasoning] {readable(item.text).strip()}")
    if not record.isolated:
        pieces.insert(0, "[warning] not isolated: commands ran on this computer itself")
    return "\n\n".join(piece for piece in pieces if piece)


def record_json(record: TurnRecord) -> dict[str, Any]:
    """Ids, model, outcome and usage."""
    result = record.result
    tokens = record.tokens
    parts = result.parts if result else ()
    return {
        "version": 1,
        "sessionID": record.session_id,
        "messageID": result.message_id if result else None,
        "model": record.model,
        "sandbox": {"provider": record.sandbox, "isolated": record.isolated},
        "outcome": record.outcome or None,
        "error": result.error.name if result and result.error else None,
        "finishReason": (result.finish_reason or None) if result else None,
        "tokens": {
            "input": tokens.input,
            "output": tokens.output,
            "reasoning": tokens.reasoning,
            "cache": {"read": tokens.cache_read, "write": tokens.cache_write},
        },
        "cost": record.cost,
        "context": {"used": record.context_used, "limit": record.context_limit},
        "steps": record.steps,
        "seconds": round(record.elapsed, 3),
        "tools": [p.tool for p in parts if isinstance(p, ToolPart)],
        "files": [p.path for p in parts if isinstance(p, FilePart) and p.path],
        "permissions": [
            {"permission": i.request.permission, "reply": i.reply}
            for i in record.items.values()
            if isinstance(i, AskItem)
        ],
    }
