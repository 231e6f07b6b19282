"""
Markdown for a file of its own, in which other programs' viewers find nothing active.

Such viewers take raw HTML, fetch pictures, follow any link and typeset formulas. Text and layout
stay; formulas stay readable as their source.
"""

from __future__ import annotations

import re

from ._links import link_address
from ._markdown import fences
from ._page import page_text

__all__ = ["inert_markdown"]

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
# A backslash before what is replaced here would escape the replacement instead.
# A brace begins attributes or raw HTML for Pandoc, Quarto and kramdown, a role for MyST, code for
# Jekyll and Hugo.
_ACTIVE = re.compile(r"[&<$`{]|\\(?=[A-Za-z\\()[\]&<$`!{])|!(?=\[)|\](?=\()|\](?=:)")
_BROKEN = {"\\": "<span>&#92;</span>", "`": "<span>&#96;</span>", "{": "<span>&#123;</span>"}
_OPENING = re.compile(r"(.*?(?:`{3,}|~{3,})[ \t]*)([\w+#.-]{1,32}(?![^\s]))?")
_CODE_LANGUAGES = """
bash c clojure cmake console cpp cs csharp csv css dart diff dockerfile elixir erlang fortran go
haskell html http ini java javascript js json jsonl julia kotlin log lua make makefile matlab md
markdown nim ocaml octave patch perl php powershell py pycon python python3 r ruby rust scala sh
shell sql stan swift text toml ts tsv txt typescript vim xml yaml yml zig
"""
_LANGUAGES = frozenset(_CODE_LANGUAGES.split())
"""Languages of blocks that viewers show. Others they may draw or run, each its own."""
_ADDRESS = re.compile(r"\(([^\s()<>]*)")


def inert_markdown(text: str) -> str:
    """
    `text` without HTML, diagrams, pictures, links other than http, https and mail, and formulas.

    Blocks of code stay as they are.
    """
    lines = text.split("\n")
    blocks = fences(text)
    kept = {number for start, end in blocks for number in range(start, end)}
    for start, _ in blocks:
        lines[start] = _opening(lines[start])
    return "\n".join(
        line if number in kept else _inert_line(line) for number, line in enumerate(lines)
    )


def _opening(line: str) -> str:
    """The first line of a block of code; its language is one word at most, which nobody draws."""
    match = _OPENING.match(line)
    if match is None:
        return line
    language = match[2] or ""
    return match[1] + (language if not language or language.lower() in _LANGUAGES else "text")


def _inert_line(line: str) -> str:
    """Code in the line stays, where all viewers agree that it is code."""
    if "|" in line or "\\`" in line:
        return _inert(line)
    pieces, place = [], 0
    for code in _CODE.finditer(line):
        pieces += [_inert(line[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*pieces, _inert(line[place:])])


def _inert(text: str) -> str:
    def shown(match: re.Match[str]) -> str:
        char = match[0]
        if char == "]":
            address = _ADDRESS.match(text, match.end())
            return char if address and link_address(address[1]) else "]\\"
        if char == "!":
            return "\\!"
        return _BROKEN.get(char) or page_text(char)

    return _ACTIVE.sub(shown, text)
