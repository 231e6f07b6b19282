"""What a `SendResult` looks like as the value of a cell: one line. It stays the whole object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._text import one_line

if TYPE_CHECKING:
    from ...wire import SendResult

__all__ = ["one_line_of", "show_results_short", "show_results_whole"]

_TYPE = ("agent_magics.wire._objects", "SendResult")
_EXCERPT = 100


def one_line_of(result: SendResult) -> str:
    """State, tokens, cost as far as it is known, and the first line of the reply."""
    error, tokens = result.error, result.tokens
    facts = ["completed" if error is None else one_line(f"{error.name}: {error.message}", 200)]
    facts.append(f"{tokens.input:,} tokens in, {tokens.output:,} out")
    if result.cost is not None:
        facts.append(f"${result.cost:.4f}")
    first = next((line for line in result.text.splitlines() if line.strip()), "")
    if first:
        facts.append(repr(one_line(first, _EXCERPT)))
    return f"<SendResult {' · '.join(facts)}>"


def show_results_short(shell: Any) -> None:
    """Have IPython show results by `one_line_of()`, alone and in lists. Imports nothing."""

    def pretty(result: SendResult, printer: Any, cycle: bool) -> None:
        printer.text(one_line_of(result))

    shell.display_formatter.formatters["text/plain"].for_type_by_name(*_TYPE, pretty)


def show_results_whole(shell: Any) -> None:
    """The reverse."""
    shell.display_formatter.formatters["text/plain"].pop(".".join(_TYPE), None)
