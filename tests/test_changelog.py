"""The changelog keeps the form that its first lines promise."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parent.parent / "CHANGELOG.md").read_text("utf-8")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_sections() -> None:
    versions = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", version) for version in versions[1:]
    )
    kinds = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)
    assert kinds and set(kinds) <= KINDS


def test_entries_are_sentences() -> None:
    entries = re.findall(r"^- (.+(?:\n  .+)*)", TEXT, re.MULTILINE)
    assert entries
    assert [entry for entry in entries if not entry.rstrip().endswith(".")] == []
