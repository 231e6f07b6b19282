"""Markdown files with front matter: commands and skills are written in this form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["FrontMatterError", "MarkdownFile", "parse_markdown"]

_FENCED = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LARGEST = 16 << 10
"""Characters of front matter: the file may be anybody's, and YAML is slow to parse."""


class FrontMatterError(Exception):
    """The file can't be used; the message says why."""


@dataclass(frozen=True)
class MarkdownFile:
    """The `fields` above the text and the text below, without blank lines around it."""

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """A field's text on one line; None when it is missing or no text."""
        value = self.fields.get(name)
        return " ".join(value.split()) or None if isinstance(value, str) else None


def parse_markdown(data: bytes) -> MarkdownFile:
    """Raises `FrontMatterError`. A file without front matter is all text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FrontMatterError("it is not UTF-8 text") from None
    found = _FENCED.match(text)
    if found is None:
        return MarkdownFile(text.strip())
    return MarkdownFile(text[found.end() :].strip(), _fields(found[1]))


def _fields(text: str) -> Mapping[str, Any]:
    if len(text) > _LARGEST:
        raise FrontMatterError(f"its front matter is longer than {_LARGEST} characters")
    try:
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FrontMatterError(f"its front matter is not valid YAML: {line}") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise FrontMatterError("its front matter must be lines of the form `name: value`")
    return fields
