r"""
Formulas in Markdown: `$…$` and `\(…\)` in a line, `$$…$$` and `\[…\]` by themselves.

`\begin{align}` and its like begin a formula by themselves as well.

They are recognised so that Markdown leaves what is in them alone, and become MathML; a formula that
is not allowed stays a readable source, as code. Prices and shell variables are no formulas.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ._formulas import formula_html
from ._page import code_text, markup_text, page_text
from ._visible import readable, visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["MATH_BLOCK", "add_math"]

MATH_BLOCK = "math_block"
_LONGEST = 5_000
"""Characters that a formula in a line may have; the search for its end is not to take long."""
_MOST = 60_000
"""Characters of formulas in one text that are converted; each counts for `_EACH` more."""
_EACH = 20
_CLOSERS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
# Scripts without blanks between words have formulas in the middle of a text.
_WORD = re.compile(r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\uffef]")
_ENDING = re.compile(r"(?:st|nd|rd|ths?|s)(?!\w)")
"""What may follow a formula without a blank: the $n$th of $k$s."""
_ENVIRONMENT = re.compile(r"\\begin\{((?:equation|align|alignat|gather|multline|eqnarray)\*?)\}")


def add_math(parser: MarkdownIt) -> None:
    """Teach `parser` formulas. `env["colours"]` chooses the form: "spans" stands on its own."""
    interrupted = {"alt": ["paragraph", "blockquote", "list"]}
    parser.block.ruler.before("fence", MATH_BLOCK, _block, interrupted)  # type: ignore[arg-type]
    parser.inline.ruler.before("escape", "math", _inline)
    parser.add_render_rule(MATH_BLOCK, _block_html)
    parser.add_render_rule("math", _inline_html)


def _block(state: Any, start: int, end: int, silent: bool) -> bool:
    """
    A formula that begins a line: up to the line that it ends, or up to a blank one.

    One that never ends is shown as it is. So its lines are known for certain when the next begin.
    """
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].rstrip()
    closer = _CLOSERS.get(first[:2]) if first[:2] != "\\(" else None
    environment = _ENVIRONMENT.match(first)
    if environment is not None:
        closer = rf"\end{{{environment[1]}}}"
    if closer is None or (
        closer in first[2:] and first.find(closer, 2) != len(first) - len(closer)
    ):
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
    token.content = body[2:-2].strip() if closed and not environment else body
    token.map = [start, line + 1]
    token.meta = {"closed": closed, "marks": not environment}
    return True


def _inline(state: Any, silent: bool) -> bool:
    found = _ends_at(state.src, state.pos, state.posMax)
    if found is None:
        return False
    mark, end = found
    if not silent:
        body = state.src[state.pos + len(mark) : end]
        token = state.push("math", "math", 0)
        token.content, token.markup = body, "$$" if mark in ("$$", "\\[") else "$"
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
    is_in_word = _WORD.match(after) and not _ENDING.match(text, end + 1)
    if _WORD.match(before) or is_in_word or "$" in (before, after):
        return None
    return "$", end


def _block_html(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    standalone = env["colours"] == "spans"
    if not token.meta["closed"]:
        text = readable(token.content)
        return f"<p>{page_text(text) if standalone else markup_text(text)}</p>\n"
    html = _formula(token.content, env, block=True)
    if html is None:
        between = "\n" if "\n" in token.content else ""
        marks = ("$$" + between, between + "$$") if token.meta["marks"] else ("", "")
        html = _source(f"{marks[0]}{token.content}{marks[1]}")
    if standalone:
        return f'<div style="margin:8px 0;overflow-x:auto;overflow-y:hidden">{html}</div>\n'
    return f"<p>{html}</p>\n"


def _inline_html(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    html = _formula(token.content, env, block=False)
    return html or _source(f"{token.markup}{token.content}{token.markup}")


def _formula(tex: str, env: Any, *, block: bool) -> str | None:
    """None where it is not allowed, or comes after too many: converting takes milliseconds."""
    env["converted"] = env.get("converted", 0) + len(tex) + _EACH
    if env["converted"] > _MOST:
        return None
    return formula_html(tex, block=block, standalone=env["colours"] == "spans")


def _source(tex: str) -> str:
    return f"<code>{code_text(visible(tex))}</code>"
