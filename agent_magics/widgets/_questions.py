"""What an agent asks to be allowed, in full: a list of requests that shows itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..wire import PermissionRequest
from ._changes import Block
from ._describe import always_label, ask_blocks, ask_title
from ._page import code_text, page, page_text

__all__ = ["Questions"]

_NONE = "The agent waits for no answer."
_CODE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0;padding:4px 8px;border-radius:4px;"
    "background:rgba(127,127,127,.12)"
)


class Questions(list[PermissionRequest]):
    """
    The requests with everything that an answer would allow: nothing of a command or a change is
    cut, and each says how it is answered.
    """

    def __init__(self, requests: Iterable[PermissionRequest]) -> None:
        super().__init__(requests)

    def text(self) -> str:
        """As plain text."""
        return "\n\n".join("\n".join(_lines(request)) for request in self) or _NONE

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.text())

    def _repr_html_(self) -> str:
        shown = (f'<div style="margin:0 0 12px">{_html(request)}</div>' for request in self)
        return page("".join(shown) or page_text(_NONE))


def _lines(request: PermissionRequest) -> list[str]:
    lines = [f"{request.id}: {ask_title(request)}"]
    for block in ask_blocks(request):
        lines += [f"  {block.label}:"] if block.label else []
        lines += [f"    {line}" for line in block.text.split("\n")]
    return [*lines, *(f"  {command}: {meaning}" for command, meaning in _answers(request))]


def _html(request: PermissionRequest) -> str:
    blocks = "".join(map(_block, ask_blocks(request)))
    title = f"<b>{page_text(ask_title(request))}</b> <code>{code_text(request.id)}</code>"
    answers = "".join(
        f"<div><code>{code_text(command)}</code>: {page_text(meaning)}</div>"
        for command, meaning in _answers(request)
    )
    return f"<div>{title}</div>{blocks}{answers}"


def _block(block: Block) -> str:
    label = f"<div>{page_text(block.label)}:</div>" if block.label else ""
    if block.kind == "words":
        return f"{label}<div>{page_text(block.text)}</div>"
    return f'{label}<pre style="{_CODE}">{code_text(block.text)}</pre>'


def _answers(request: PermissionRequest) -> list[tuple[str, str]]:
    """The commands that answer it, and what each means."""
    found = [("once", "Allow once")]
    if scope := always_label(request):
        found.append(("always", scope))
    found.append(("reject", "Reject; what stands behind the id is told to the agent"))
    return [(f"%agent_permissions {reply} {request.id}", words) for reply, words in found]
