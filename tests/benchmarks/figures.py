"""A measured figure and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """
    `value` in `unit` against `limit` (at most, or at least with `more_is_better`).

    `baseline` is what the same run measured for `against`; `None` where nothing compares.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    more_is_better: bool = False
    baseline: float | None = None
    against: str = ""

    @property
    def good(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.more_is_better else self.value <= self.limit


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(figures: Sequence[Figure]) -> str:
    """The figures as text columns."""
    rows = [("figure", "measured", "limit", "baseline", "ratio", "")]
    for figure in figures:
        sign = ">=" if figure.more_is_better else "<="
        limit = "" if figure.limit is None else f"{sign} {_number(figure.limit)} {figure.unit}"
        baseline = ratio = ""
        if figure.baseline is not None:
            baseline = f"{_number(figure.baseline)} {figure.unit} ({figure.against})"
            ratio = f"{figure.value / figure.baseline:.2f}" if figure.baseline else "-"
        verdict = "" if figure.limit is None else "ok" if figure.good else "MISSED"
        value = f"{_number(figure.value)} {figure.unit}"
        rows.append((figure.name, value, limit, baseline, ratio, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"
