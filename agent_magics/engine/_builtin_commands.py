"""The commands that every session has."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["BUILTIN"]

_PROFILE = """\
Profile this data: $ARGUMENTS

If nothing is named, take every table (CSV, TSV, Parquet, Excel, JSON lines) in /workspace. Change \
no data file. For each table find out, by running code:
- rows, columns, and what one row seems to stand for
- per column: type, share of missing values, number of distinct values, range or most frequent \
values
- duplicate rows, and columns that look like keys but are not unique
- what is suspicious: numbers or dates stored as text, mixed units or spellings, impossible \
values, outliers, constant columns, columns that would leak the target of a prediction

Answer with one small table per data file and then at most ten findings, the most consequential \
first, each with the number that shows it."""

_REVIEW = """\
Review: $ARGUMENTS

If nothing is named, review the code and the notebooks in /workspace, newest first. Change \
nothing. Look for what makes results wrong before what makes code ugly:
- joins that multiply or drop rows, filters and groupings that silently lose data, wrong units
- leakage between training and test data, missing seeds, metrics that don't fit the question
- conclusions that the numbers don't support, charts that mislead
- errors that are swallowed, paths and constants that hold on one machine only

Check a suspicion by running something small where you can. Answer with the findings in order of \
consequence: file and line, what is wrong, how you know, and the smallest change that mends it. \
Say so plainly if you found nothing serious."""

_EXPLAIN = """\
Explain: $ARGUMENTS

If nothing is named, explain what is in /workspace and how the parts belong together. Change \
nothing. Read before you explain, and run small pieces where that shows more than words. Write for \
somebody who knows Python but not this work: first what it is for in two sentences, then how it \
goes step by step with the names of files and functions, then what is surprising or easily \
misunderstood. Say what you could not find out."""

BUILTIN = MappingProxyType(
    {
        "explain": (_EXPLAIN, "Explain code, a file or the whole workspace"),
        "profile": (_PROFILE, "Profile data files: shape, quality, what is suspicious"),
        "review": (_REVIEW, "Review code and analysis for what makes results wrong"),
    }
)
"""Template and description by name."""
