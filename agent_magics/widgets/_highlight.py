"""Light syntax highlighting: Pygments' tokens boiled down to seven kinds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ._page import code_text

__all__ = ["highlight_html", "highlight_runs"]

MAX_CODE = 12_000
"""Longer code is shown plain: colouring it would cost more than it gives."""

_MAX_LINE = 2_000
# Only languages whose lexers are known to be quick on any input.
_LEXERS = {
    "bash": "bash",
    "c": "c",
    "console": "console",
    "cpp": "cpp",
    "css": "css",
    "diff": "diff",
    "go": "go",
    "html": "html",
    "ini": "ini",
    "java": "java",
    "javascript": "javascript",
    "js": "javascript",
    "json": "json",
    "julia": "julia",
    "patch": "diff",
    "py": "python",
    "pycon": "pycon",
    "python": "python",
    "python3": "python",
    "r": "r",
    "rust": "rust",
    "sh": "bash",
    "shell": "bash",
    "sql": "sql",
    "toml": "toml",
    "ts": "typescript",
    "typescript": "typescript",
    "yaml": "yaml",
    "yml": "yaml",
}


STYLES = {
    "k": "color:var(--jp-mirror-editor-keyword-color,#2f8a34)",
    "s": "color:var(--jp-mirror-editor-string-color,#c0522f)",
    "c": "font-style:italic;opacity:.8",
    "m": "color:var(--jp-mirror-editor-number-color,#3d8b3d)",
    "f": "color:var(--jp-mirror-editor-def-color,#4a6cf0)",
    "b": "color:var(--jp-mirror-editor-builtin-color,#3d8b3d)",
    "d": "color:var(--jp-error-color1,#d32f2f)",
}
"""Jupyter's editor colours; elsewhere ones that can be read on light and dark ground."""


@lru_cache(maxsize=32)
def _lexer(name: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


@lru_cache(maxsize=512)
def _kind(token: Any) -> str:
    """A letter: keyword, string, comment, nuMber, function or class, builtin, deleted; or ""."""
    from pygments.token import Token  # type: ignore[import-untyped]

    for parent, letter in (
        (Token.Comment, "c"),
        (Token.Keyword, "k"),
        (Token.Operator.Word, "k"),
        (Token.Literal.Number, "m"),
        (Token.Literal.String, "s"),
        (Token.Name.Function, "f"),
        (Token.Name.Class, "f"),
        (Token.Name.Tag, "k"),
        (Token.Name.Attribute, "f"),
        (Token.Name.Decorator, "f"),
        (Token.Name.Builtin, "b"),
        (Token.Name.Exception, "b"),
        (Token.Generic.Inserted, "s"),
        (Token.Generic.Deleted, "d"),
        (Token.Generic.Subheading, "c"),
        (Token.Generic.Prompt, "c"),
    ):
        if token in parent:
            return letter
    return ""


def _tokens(code: str, language: str) -> list[tuple[str, str]]:
    """`(kind, text)` runs that join to `code`; empty where highlighting is not worth it."""
    name = _LEXERS.get(language.lower())
    if name is None or len(code) > MAX_CODE or max(map(len, code.split("\n"))) > _MAX_LINE:
        return []
    runs: list[tuple[str, str]] = []
    for token, text in _lexer(name).get_tokens(code):
        kind = _kind(token)
        if runs and (runs[-1][0] == kind or text.isspace()):
            runs[-1] = (runs[-1][0], runs[-1][1] + text)
        elif text:
            runs.append((kind, text))
    # A lexer may normalise what it reads; then its positions say nothing about `code`.
    return runs if "".join(text for _, text in runs) == code else []


def highlight_html(code: str, language: str) -> str:
    """`code` escaped, with styled `<span>`s around coloured runs; "" when left plain."""
    return "".join(
        f'<span style="{STYLES[kind]}">{code_text(text)}</span>' if kind else code_text(text)
        for kind, text in _tokens(code, language)
    )


def highlight_runs(code: str, language: str) -> str:
    """
    The colours of `code` as `6k12 4s`: length in UTF-16 units, then the kind's letter or a blank.

    A tenth of the bytes of the HTML; the browser makes the spans. "" when left plain.
    """
    return "".join(
        f"{len(text.encode('utf-16-le')) // 2}{kind or ' '}"
        for kind, text in _tokens(code, language)
    )
