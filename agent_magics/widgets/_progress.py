"""What a turn does now and what it has taken so far, in a few words."""

from __future__ import annotations

from typing import TypeGuard

from ..wire import ToolPart
from ._record import Item, TextItem, ToolItem, TurnRecord
from ._visible import readable, visible

__all__ = ["count", "duration", "facts", "status_words"]

_STATUS = {
    "connecting": "connecting",
    "reconnecting": "connection lost, trying again",
    "busy": "working",
    "idle": "working",  # between two steps; the turn's end has its own words
    "compacting": "summarizing the conversation to make room",
    "retry": "waiting to try again",
    "completed": "done",
    "aborted": "stopped",
    "error": "failed",
}
_ENDINGS = {
    "ContentFilterError": "refused by the provider",
    "ContextOverflowError": "cut off: the context window is full",
    "MessageOutputLengthError": "cut off by the token limit",
    "ReplyIncompleteError": "cut off",
}
"""What failed turns are called that brought a part of a reply."""
_PER_TOKEN = 4
"""Characters, roughly."""
_TITLE = 60
_NARROW_SPACE = "\u202f"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def count(number: int, unit: str) -> str:
    """`1 line`, `12 345 lines`."""
    return f"{_grouped(number)} {unit}{'' if number == 1 else 's'}"


def status_words(record: TurnRecord) -> str:
    """What the turn does now, in a few words."""
    if (asks := len(record.open_asks)) and not record.outcome:
        return "waiting for you" if asks == 1 else f"waiting for you: {asks} questions"
    if record.status == "busy":
        silence = f", no answer for {duration(record.silence)}" if record.silence else ""
        return _activity(record) + silence
    error = record.result.error if record.result else None
    if error is not None and error.name in _ENDINGS:
        return _ENDINGS[error.name]
    words = _STATUS.get(record.status, visible(record.status))
    if record.status == "retry" and record.attempt:
        words = f"{words} (attempt {record.attempt + 1})"
    return f"{words}: {readable(record.status_message)}" if record.status_message else words


def _activity(record: TurnRecord) -> str:
    last = next(reversed(record.items.values()), None)
    if last is None:
        return _STATUS["busy"]
    if isinstance(last, TextItem):
        return "writing"
    running = [item.part for item in record.items.values() if _is_running(item)]
    if len(running) > 1:
        return f"running {len(running)} tools"
    if running:
        return f"running {_call(running[0])}"
    if isinstance(last, ToolItem) and last.part.state.status == "pending":
        return f"preparing {visible(last.part.tool)}"
    return "thinking"


def _is_running(item: Item) -> TypeGuard[ToolItem]:
    return isinstance(item, ToolItem) and item.part.state.status == "running"


def _call(part: ToolPart) -> str:
    title = " ".join(visible(part.state.title).split())
    title = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
    return f"{visible(part.tool)}: {title}" if title else visible(part.tool)


def facts(record: TurnRecord) -> list[str]:
    """Tokens, cost and the share of the context window, as far as they are known."""
    found = []
    if tokens := _tokens(record):
        found.append(tokens)
    if record.cost:
        found.append(f"${record.cost:.4f}")
    used, limit = record.context_used, record.context_limit
    if used and limit:
        share = max(1, round(100 * used / limit))
        found.append(f"context {share} % of {_short(limit)}")
    return found


def _tokens(record: TurnRecord) -> str:
    """What the model counted; what streams in is estimated until it has counted that as well."""
    total, fresh = record.tokens.total, record.streamed // _PER_TOKEN
    if fresh < 50 or record.outcome:
        return count(total, "token") if total else ""
    step = 10 ** (len(str(fresh)) - 1) // 2  # a number that can be read while it grows
    return f"~{count(total + fresh // step * step, 'token')}"


def _short(number: int) -> str:
    if number < 10_000:
        return _grouped(number)
    return f"{number / 1e6:.3g}M" if number >= 1_000_000 else f"{number // 1000}k"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", _NARROW_SPACE)
