"""JSON text that can always be stored and sent, and the removal of secrets from messages."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Scrubber", "dumps", "one_line", "spelled_out", "well_formed"]

_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHORTEST_SECRET = 8
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""Categories of characters."""


def well_formed(text: str) -> str:
    """
    `text` without lone surrogates, so that it can be encoded as UTF-8.

    Two halves of a pair that a model server sent separately become the character they mean;
    a half that stays alone becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def spelled_out(text: str) -> str:
    """`text` on one line, with what is not seen (control characters, direction marks) as codes."""
    return "".join(
        f"\\u{{{ord(char):x}}}" if unicodedata.category(char) in _UNSEEN else char for char in text
    )


def one_line(text: str, limit: int) -> str:
    """`text` on one line, blanks and line breaks joined, of at most `limit` characters."""
    line = spelled_out(" ".join(well_formed(text).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def dumps(value: Any) -> str:
    """Compact JSON, always encodable as UTF-8."""
    return well_formed(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


class Scrubber:
    """Replaces the values of secrets in texts that come from outside, such as error messages."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {s for s in secrets if len(s) >= _SHORTEST_SECRET}
        self._secrets = sorted(found, key=len, reverse=True)

    @classmethod
    def of_environ(cls, *environs: Mapping[str, str]) -> Scrubber:
        """The values of all variables whose name says that they hold a secret."""
        return cls(
            value
            for environ in environs
            for name, value in environ.items()
            if any(word in name.upper() for word in _SECRET_WORDS)
        )

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text
