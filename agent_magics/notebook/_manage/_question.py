"""
Line magics whose text ends in a question mark.

IPython reads `%agent what is this?` as `this?`, a request for help on `this`. For our own line
magics with text behind the name the question belongs to the text; `%agent?` stays a request for
help.
"""

from __future__ import annotations

import re
from typing import Any

from IPython.core.inputtransformer2 import EscapedCommand

__all__ = ["QuestionLine"]


class QuestionLine(EscapedCommand):  # type: ignore[misc]  # IPython's base is untyped here
    """Takes `%agent some text?` before IPython's own rule for a trailing `?` does."""

    priority = 1
    _line = re.compile(r"%agent(?:_shell|_run|_fix|_session)?\s+\S")

    @classmethod
    def find(cls, tokens_by_line: Any) -> Any:
        """The first line that is one of ours, `None` if there is none."""
        for tokens in tokens_by_line:
            for token in tokens:
                if not token.string.strip():
                    continue
                if token.string == "%" and cls._line.match(token.line, token.start[1]):
                    return cls(token.start)
                break
        return None
