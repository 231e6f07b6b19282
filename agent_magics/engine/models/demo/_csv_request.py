"""What a prompt says about the analysis of a CSV file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..._paths import container_path, is_below, short_path

__all__ = [
    "Choice",
    "Column",
    "CsvRequest",
    "chart_path",
    "choose",
    "parse_csv_request",
    "table_path",
]

_QUOTED = r"`([^`]{1,300}\.(?:%s))`|\"([^\"\n]{1,300}\.(?:%s))\"|'([^'\n]{1,300}\.(?:%s))'"
_BARE = r"|([^\s\"'`,;()<>]{1,300}\.(?:%s))(?![\w])"


def _file_pattern(suffixes: str) -> re.Pattern[str]:
    return re.compile((_QUOTED + _BARE).replace("%s", suffixes), re.IGNORECASE)


_DATA_FILE = _file_pattern("csv|tsv|parquet")
_CHART_FILE = _file_pattern("png|svg|jpe?g|pdf")
_TABLE_FILE = re.compile(
    r"\b(?:save|write|put|store|keep)\b[^.\n]{0,60}?\b(?:as|to|in|into)\s+"
    + f"(?:{_DATA_FILE.pattern})",
    re.IGNORECASE,
)
_STATISTICS = {
    "median": r"medians?",
    "sum": r"sums?|totals?",
    "max": r"max(?:imum|ima)?|highest|largest",
    "min": r"min(?:imum|ima)?|lowest|smallest",
    "count": r"counts?|number of|how many",
    "mean": r"means?|averages?|avg",
}
_PER = r"(?:per|by|for each|for every|in each|grouped by|across|of each)"
_END = r"(?=\s*(?:[,.;:!?\n]|$|\band\b|\bthen\b|\bsave\b|\bdraw\b|\bin\b|\bas\b|\bfrom\b|\bwith\b))"
_ANY = "|".join(_STATISTICS.values())
_PHRASE = re.compile(
    rf"\b(?P<statistic>{_ANY})\b\s+(?:of\s+|the\s+)*(?P<value>[^,;\n]{{1,60}}?)\s+"
    rf"{_PER}\s+(?:the\s+)?(?P<group>[^,;\n]{{1,60}}?){_END}",
    re.IGNORECASE,
)
_GROUP_ONLY = re.compile(
    rf"\b{_PER}\s+(?:the\s+)?(?P<group>[\w\"'` -]{{1,60}}?){_END}", re.IGNORECASE
)
_STATISTIC_ONLY = re.compile(rf"\b(?P<statistic>{_ANY})\b", re.IGNORECASE)
_TABLE_WORDS = re.compile(r"\bcsv\b|\btsv\b|\bcolumns?\b|\bdata ?set\b", re.IGNORECASE)
_NO_CHART = re.compile(r"\b(?:no|without(?: a| any)?) (?:charts?|plots?|graphs?)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_IDENTIFIER = re.compile(r"^(?:unnamed.*|id|ids|index|idx|no|nr|number|row|rowid|key|year|date)$")
MAX_GROUPS = 30


@dataclass(frozen=True)
class CsvRequest:
    """
    `file`, `chart` and `table` are paths as the user wrote them, `value` and `group` words for
    columns.

    `chart` and `table` are None when no file was named; `wants_chart` is False only if the user
    wants none.
    """

    prompt: str
    file: str | None
    chart: str | None
    wants_chart: bool
    statistic: str
    value: str
    group: str
    table: str | None = None

    def of_file(self, file: str) -> CsvRequest:
        """The same request for another file."""
        return replace(self, file=file)


def parse_csv_request(prompt: str) -> CsvRequest | None:
    """What `prompt` wants to know about a table; None if it is not about one."""
    without_charts = _CHART_FILE.sub(" ", prompt)
    table = _path(_TABLE_FILE, without_charts)
    file = _path(_DATA_FILE, _TABLE_FILE.sub(" ", without_charts))
    # File names are no words for columns: "by" in "by_city.csv" means nothing.
    words = _CHART_FILE.sub(" ", _DATA_FILE.sub(" ", prompt))
    phrase = _PHRASE.search(words)
    group = phrase or _GROUP_ONLY.search(words)
    statistic = phrase or _STATISTIC_ONLY.search(words)
    # "mean by" alone may be "what do you mean by that".
    counts = group and statistic and not re.match("mean", statistic["statistic"], re.IGNORECASE)
    if not (file or phrase or counts or _TABLE_WORDS.search(prompt)):
        return None
    return CsvRequest(
        prompt=words,
        file=file,
        chart=_path(_CHART_FILE, prompt),
        wants_chart=_NO_CHART.search(words) is None,
        statistic=_statistic(statistic.group("statistic")) if statistic else "mean",
        value=phrase.group("value") if phrase else "",
        group=group.group("group") if group else "",
        table=table,
    )


def _path(pattern: re.Pattern[str], prompt: str) -> str | None:
    match = pattern.search(prompt)
    return next((group for group in match.groups() if group), None) if match else None


def _statistic(word: str) -> str:
    for name, pattern in _STATISTICS.items():
        if re.fullmatch(pattern, word, re.IGNORECASE):
            return name
    return "mean"


@dataclass(frozen=True)
class Column:
    """A column as the script in the container described it. `kind`: number or text."""

    name: str
    kind: str
    values: int
    distinct: int


@dataclass(frozen=True)
class Choice:
    """What to compute. Without `value` rows are counted; without `group` there is one group."""

    group: str | None
    value: str | None
    statistic: str
    notes: tuple[str, ...]


def choose(request: CsvRequest, columns: list[Column]) -> Choice:
    """The columns that the request means, or the most sensible ones."""
    notes: list[str] = []
    asked_group = _best(columns, request.group)
    numbers = [c for c in columns if c.kind == "number" and c != asked_group]
    value = _best(columns, request.value) or _mentioned(numbers, request.prompt)
    if request.value and value is None:
        notes.append(f"I found no column for “{request.value.strip()[:60]}”.")
    statistic = request.statistic
    if value is not None and value.kind != "number" and statistic != "count":
        notes.append(f"The column “{value.name[:60]}” is not numeric, so I count rows instead.")
        statistic, value = "count", None
    elif value is None and statistic != "count":
        value = _first_number(numbers)
        if value is None:
            notes.append("There is no numeric column, so I count rows.")
            statistic = "count"
    if statistic == "count":
        value = None
    others = [column for column in columns if value is None or column.name != value.name]
    group = _best(others, request.group) or _mentioned(
        [c for c in others if c.distinct <= MAX_GROUPS], request.prompt
    )
    if request.group and group is None:
        notes.append(f"I found no column for “{request.group.strip()[:60]}”.")
    group = group or _first_group(others)
    return Choice(
        group.name if group else None, value.name if value else None, statistic, tuple(notes)
    )


def _words(text: str) -> set[str]:
    found = _WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold())
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found}


def _best(columns: list[Column], phrase: str) -> Column | None:
    """The column whose name has most in common with `phrase`."""
    wanted = _words(phrase)
    if not wanted:
        return None

    def score(column: Column) -> tuple[int, int]:
        words = _words(column.name)
        return len(words & wanted), -len(words - wanted)

    best = max(columns, key=score, default=None)
    return best if best is not None and score(best)[0] else None


def _mentioned(columns: list[Column], prompt: str) -> Column | None:
    """The column whose whole name stands in the prompt."""
    said = _words(prompt)
    named = [c for c in columns if (words := _words(c.name)) and words <= said]
    return max(named, key=lambda column: len(_words(column.name)), default=None)


def _first_number(numbers: list[Column]) -> Column | None:
    measured = [c for c in numbers if not _IDENTIFIER.match(c.name.casefold()) and c.distinct > 2]
    return next(iter(measured or numbers), None)


def _first_group(columns: list[Column]) -> Column | None:
    few = [column for column in columns if 2 <= column.distinct <= MAX_GROUPS]
    texts = [column for column in few if column.kind == "text"]
    return next(iter(texts or few), None)


def table_path(request: CsvRequest) -> str | None:
    """Where the numbers go as a CSV file; None when they are only told."""
    if request.table is None:
        return None
    path = container_path(request.table)
    if is_below(path, "/workspace"):
        return short_path(path)
    return path.rpartition("/")[2]


def chart_path(request: CsvRequest, stem: str) -> tuple[str, str]:
    """
    Where the chart goes, and a note when that is not where the user wanted it.

    "" when no chart is wanted.
    """
    if not request.wants_chart:
        return "", ""
    if request.chart is None:
        return f"/workspace/{stem}.png", ""
    path = container_path(request.chart)
    if is_below(path, "/workspace") or is_below(path, "/tmp"):
        return path, ""
    moved = f"/workspace/{path.rpartition('/')[2]}"
    return moved, "Only /workspace and /tmp can be written, so the chart goes to /workspace."
