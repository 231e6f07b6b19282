"""
What the browser must do to show a `TurnRecord`: small operations, only appended to.

Byte discipline: text that grows is sent as plain text to append and, when it has been rendered
anew, as the part of its HTML that differs from what the page has. What is sent again for that is
held within a budget that grows with the text. Live output is appended and clipped when it comes
faster than anybody reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ._changes import Block
from ._describe import (
    TODO_MARKS,
    always_label,
    ask_blocks,
    ask_title,
    exit_code,
    reply_words,
    tool_blocks,
    tool_facts,
    tool_mark,
    tool_output,
    tool_title,
)
from ._markdown import MarkdownStream
from ._progress import facts, status_words
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
from ._static import data_url
from ._visible import TerminalTail, common_prefix, readable, utf16_length, visible

__all__ = ["Op", "OpWriter"]

Op = dict[str, Any]

_GRACE = 16_000
_SHARE = 0.75
"""HTML may be sent twice up to this share of the text so far, and `_GRACE` characters more."""
_LIVE_FLUSH = 32_000
"""Characters of live output that one update carries at most."""
_RESULT_LIMIT = 1_000_000


class _TextState:
    """What the page has of one text."""

    def __init__(self) -> None:
        self.stream = MarkdownStream()
        self.taken = 0
        self.html = ""
        """The open block's HTML."""
        self.plain = False
        """Whether plain text follows it that is not part of it yet."""
        self.settled = True
        """Whether the page has the final HTML of all there is."""

    def kept(self, html: str) -> int:
        """How much of the page's HTML stays when `html` takes its place."""
        return common_prefix(self.html, html)

    def replace(self, done: str, html: str) -> Op:
        """The finished blocks `done` and the open one's `html`, as what differs from the page."""
        new = done + html
        kept = self.kept(new)
        op: Op = {"keep": utf16_length(new[:kept]), "add": new[kept:]}
        if done:
            op["done"] = utf16_length(done)
        self.html, self.plain = html, False
        return op


class _LiveState:
    def __init__(self) -> None:
        self.taken = 0
        self.tail = TerminalTail()


class OpWriter:
    """Turns what is dirty in `record` into operations. One writer feeds one front end."""

    def __init__(self, record: TurnRecord) -> None:
        self._record = record
        self._texts: dict[str, _TextState] = {}
        self._thoughts: dict[str, int] = {}
        self._lives: dict[str, _LiveState] = {}
        self._tools: dict[str, tuple[Any, ...]] = {}
        self._known: set[str] = set()
        self._text_length = 0
        self._again = 0
        self._head: Op = {}

    def changes(self) -> list[Op]:
        """The operations for everything that changed since the last call."""
        keys, self._record.dirty = list(self._record.dirty), {}
        items = self._record.items
        ops = [op for key in keys if key in items for op in self._item(items[key])]
        ops += self._settled(next(reversed(items), ""))
        head = self._head_op()
        if head != self._head:
            if {**self._head, "facts": head["facts"]} == head:  # what changes most often
                ops.append({"op": "facts", "facts": head["facts"]})
            else:
                ops.append({**head, **self._clock()})
            self._head = head
        return ops

    def everything(self) -> list[Op]:
        """The operations that show all of it to a view that knows nothing; for a new writer."""
        self._record.dirty = dict.fromkeys(self._record.items)
        return self.changes()

    # -- per item

    def _item(self, item: Item) -> Iterator[Op]:
        fresh = item.key not in self._known
        self._known.add(item.key)
        match item:
            case TextItem():
                yield from self._text(item)
            case ThinkItem():
                if self._record.show_reasoning:
                    yield from self._think(item)
            case ToolItem():
                if not item.quiet:
                    yield from self._tool(item)
            case AskItem():
                if fresh:
                    yield _ask_op(item, self._record.answer_within)
                if item.taken and not item.reply:
                    yield {"op": "taken", "id": item.request.id, "reply": item.taken}
                if item.reply:
                    yield {
                        "op": "answered",
                        "id": item.request.id,
                        "text": reply_words(item),
                        "allowed": item.reply in ("once", "always"),
                    }
            case TodosItem():
                yield {"op": "todos", "todos": [_todo(t) for t in item.todos]}
            case ImageItem():
                source = data_url(item.mime, item.data)
                yield {"op": "image", "id": item.key, "src": source, "name": visible(item.name)}
            case NoteItem():
                yield {"op": "note", "text": readable(item.text), "kind": item.kind}

    def _text(self, item: TextItem) -> Iterator[Op]:
        state = self._texts.setdefault(item.key, _TextState())
        fresh = state.stream.feed("".join(item.chunks[state.taken :]))
        state.taken = len(item.chunks)
        self._text_length += len(fresh)
        state.settled = False
        op: Op = {"op": "text", "id": item.key}
        if state.stream.due:
            done, html = "".join(state.stream.finished()), state.stream.open_html()
            again = len(state.html) - state.kept(done + html)
            if self._again + again <= _GRACE + _SHARE * self._text_length:
                self._again += again
                yield op | state.replace(done, html)
                return
            if done:
                yield op | state.replace(done, "") | {"tail": readable(state.stream.open_text)}
                state.plain = True
                return
        state.plain = True
        yield op | {"more": readable(fresh)}

    def _settled(self, last: str) -> Iterator[Op]:
        """Texts that something else follows are not going to grow: all of them as final HTML."""
        for key, state in self._texts.items():
            if not state.settled and (key != last or self._record.outcome):
                state.settled = True
                done = "".join(state.stream.finished())
                html = state.stream.open_html(final=True)
                if state.plain or done or html != state.html:
                    op: Op = {"op": "text", "id": key, "final": True}
                    yield op | state.replace(done, html)

    def _think(self, item: ThinkItem) -> Iterator[Op]:
        start = self._thoughts.get(item.key, 0)
        self._thoughts[item.key] = len(item.chunks)
        yield {"op": "think", "id": item.key, "more": readable("".join(item.chunks[start:]))}

    def _tool(self, item: ToolItem) -> Iterator[Op]:
        part = item.part
        final = part.state.status in ("completed", "error")
        # Arguments that still arrive change with every delta; their state does not.
        form = (part.state.status, part.state.title, len(part.state.input))
        if self._tools.get(item.key) != form:
            self._tools[item.key] = form
            op: Op = {
                "op": "tool",
                "id": item.key,
                "tool": visible(part.tool),
                "title": tool_title(part),
                "status": part.state.status,
                "mark": tool_mark(part),
                "warn": exit_code(part) != 0,
                "facts": " · ".join(tool_facts(part)),
                "input": [] if part.state.status == "pending" else _blocks(tool_blocks(part)),
            }
            if final:
                op["result"] = _clipped(tool_output(item), _RESULT_LIMIT)
            yield op
        if not final and item.live:
            yield from self._live(item)

    def _live(self, item: ToolItem) -> Iterator[Op]:
        state = self._lives.setdefault(item.key, _LiveState())
        total = item.dropped + item.live_length
        fresh = total - state.taken
        state.taken = total
        if fresh <= 0:
            return
        back, more = state.tail.feed(_clipped_live("".join(item.live)[-fresh:]))
        if back or more:
            yield {"op": "output", "id": item.key, "back": back, "more": more}

    def _head_op(self) -> Op:
        record = self._record
        return {
            "op": "head",
            "model": visible(record.model),
            "session": visible(record.session_id),
            "isolated": record.isolated,
            "status": status_words(record),
            "state": "waiting" if record.open_asks else record.outcome or record.status,
            "running": not record.outcome,
            "retryAt": record.retry_at if record.status == "retry" else None,
            "facts": facts(record),
        }

    def _clock(self) -> Op:
        """Times as durations: the browser's clock may be another one."""
        retry = self._record.retry_at if self._record.status == "retry" else None
        left = None if retry is None else max(0.0, retry / 1000 - time.time())
        return {"elapsed": self._record.elapsed, "retryIn": left}


def _ask_op(item: AskItem, answer_within: float | None) -> Op:
    waited = time.monotonic() - item.asked
    return {
        "op": "ask",
        "id": item.request.id,
        "title": ask_title(item.request),
        "blocks": _blocks(ask_blocks(item.request)),
        "always": always_label(item.request),
        "left": None if answer_within is None else max(0.0, answer_within - waited),
    }


def _todo(todo: Any) -> Op:
    mark = TODO_MARKS.get(todo.status, "☐")
    return {"mark": mark, "text": readable(todo.content), "status": visible(todo.status)}


def _blocks(blocks: list[Block]) -> list[Op]:
    return [block._asdict() for block in blocks]


def _clipped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    missing = len(text) - limit
    return f"{text[: limit // 2]}\n[… {missing} characters …]\n{text[-limit // 2 :]}"


def _clipped_live(text: str) -> str:
    if len(text) > _LIVE_FLUSH:
        missing = len(text) - _LIVE_FLUSH
        text = f"[… {missing} characters went by …]\n{text[-_LIVE_FLUSH:]}"
    return text
