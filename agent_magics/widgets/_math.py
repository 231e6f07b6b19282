r"""
Formulas in Markdown: `$…$` and `\(…\)` in a line, `$$…$$` and `\[…\]` by themselves.

They are recognised so that Markdown leaves what is in them alone, and stay TeX: pages that can
typeset do it, all others show a readable source. Prices and shell variables are no formulas.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from ._visible import visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["MATH_BLOCK", "add_math", "plain_dollars"]

MATH_BLOCK = "math_block"
_LONGEST = 5_000
"""Characters that a formula in a line may have; the search for its end is not to take long."""
_CLOSERS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
_WORD = re.compile(r"\w")


def add_math(parser: MarkdownIt) -> None:
    """Teach `parser` formulas. `env["colours"]` chooses the form: "spans" stands on its own."""
    interrupted = {"alt": ["paragraph", "blockquote", "list"]}
    parser.block.ruler.before("fence", MATH_BLOCK, _block, interrupted)  # type: ignore[arg-type]
    parser.inline.ruler.before("escape", "math", _inline)
    parser.add_render_rule(MATH_BLOCK, _block_html)
    parser.add_render_rule("math", _inline_html)


def plain_dollars(html: str) -> str:
    """Escaped text in which no page's typesetter finds the ends of a formula."""
    return html.replace("$", "<span>$</span>")


def _block(state: Any, start: int, end: int, silent: bool) -> bool:
    """
    A formula that begins a line: up to the line that it ends, or up to a blank one.

    One that never ends is shown as it is. So its lines are known for certain when the next begin.
    """
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].rstrip()
    closer = _CLOSERS.get(first[:2]) if first[:2] != "\\(" else None
    if closer is None or (closer in first[2:] and first.find(closer, 2) != len(first) - 2):
        return False
    if silent:
        return True
    line, closed = start, closer in first[2:]
    while not closed and line + 1 < end and not state.isEmpty(line + 1):
        if state.sCount[line + 1] < state.blkIndent:
            break
        line += 1
        text = state.src[state.bMarks[line] : state.eMarks[line]].rstrip()
        closed = text.endswith(closer)
    state.line = line + 1
    body = state.getLines(start, line + 1, state.sCount[start], False).strip()
    token = state.push(MATH_BLOCK, "div", 0)
    token.content = f"$${body[2:-2].strip()}$$" if closed else body
    token.map = [start, line + 1]
    token.meta = {"closed": closed}
    return True


def _inline(state: Any, silent: bool) -> bool:
    found = _ends_at(state.src, state.pos, state.posMax)
    if found is None:
        return False
    mark, end = found
    if not silent:
        body = state.src[state.pos + len(mark) : end]
        around = "$$" if mark in ("$$", "\\[") else "$"
        state.push("math", "span", 0).content = f"{around}{body}{around}"
    state.pos = end + len(mark)
    return True


def _ends_at(text: str, start: int, most: int) -> tuple[str, int] | None:
    """The mark at `start` and the place of the one that closes it, if that is a formula."""
    mark = text[start : start + 2]
    most = min(most, start + _LONGEST)
    if closer := _CLOSERS.get(mark):
        end = text.find(closer, start + 2, most)
        return (mark, end) if end > start + 2 else None
    if text[start] != "$":
        return None
    end = text.find("$", start + 1, most)
    while end > 0 and text[end - 1] == "\\":
        end = text.find("$", end + 1, most)
    if end < start + 2 or text[start + 1].isspace() or text[end - 1].isspace():
        return None
    before, after = text[start - 1 : start], text[end + 1 : end + 2]
    if _WORD.match(before) or _WORD.match(after) or "$" in (before, after):
        return None
    return "$", end


def _block_html(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    text = escape(visible(token.content))
    if not token.meta["closed"]:
        return f"<p>{plain_dollars(text) if env['colours'] == 'spans' else text}</p>\n"
    if env["colours"] == "spans":
        return f'<div style="margin:8px 0;overflow-x:auto">{text}</div>\n'
    return f"<p><var>{text}</var></p>\n"


def _inline_html(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    name = "span" if env["colours"] == "spans" else "var"
    return f"<{name}>{escape(visible(tokens[index].content))}</{name}>"
