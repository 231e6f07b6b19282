"""The walk-through that analyses a CSV file."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..._paths import container_path, short_path
from ._csv_request import Choice, Column, CsvRequest, chart_path, choose, table_path
from ._csv_script import header, script
from ._json_reply import json_reply
from ._small import LABEL
from ._steps import Call, Result, Step, Walk, todos
from ._text import code, number, table, tail

__all__ = ["analyse_csv"]

_PLAN = (
    "Look at the first lines of the data",
    "Describe the columns with Python",
    "Compute the numbers",
    "Report the result",
)
_SLUG = re.compile(r"[^a-z0-9]+")
_CSV_GLOB = "**/*.{csv,tsv,parquet,CSV,TSV}"
MAX_LISTED = 15


@dataclass
class _Work:
    """One analysis: what is known so far."""

    request: CsvRequest
    plan: list[str] = field(default_factory=lambda: list(_PLAN))
    file: str = ""
    script: str = ""
    schema: Mapping[str, Any] | None = None
    """The form in which the numbers are wanted at the end, as a JSON Schema."""

    def todos(self, current: int, *, stopped: bool = False) -> Call:
        return todos(self.plan, current, stopped=stopped)

    @property
    def run(self) -> str:
        return f"python3 {self.script}"


def analyse_csv(request: CsvRequest, schema: Mapping[str, Any] | None = None) -> Walk:
    """Look, describe, compute, draw, report; every number comes from the container."""
    work = _Work(request, schema=schema)
    if request.wants_chart:
        work.plan[2] = "Compute the numbers and draw the chart"
    if not (yield from _find(work)):
        return
    stem = _SLUG.sub("_", work.file.rpartition("/")[2].rpartition(".")[0].lower()).strip("_")
    stem = f"demo_{stem[:40]}".rstrip("_")
    work.script = f"{stem}.py"
    described = yield from _describe(work)
    if described is None:
        return
    columns = [
        Column(c["name"], c["kind"], c["values"], c["distinct"]) for c in described["columns"]
    ]
    if not described["rows"] or not columns:
        yield Step("The file has no rows to compute with.", (work.todos(2, stopped=True),))
        yield Step(f"{code(work.file)} has no rows of data, so there is nothing to compute.")
        return
    choice = choose(request, columns)
    chart, note = chart_path(request, stem)
    answer = yield from _compute(work, choice, chart)
    if answer is None:
        return
    yield Step("The numbers are there.", (work.todos(4),))
    yield Step(_report(work, choice, answer, chart, note))


_Part = Generator[Step, tuple[Result, ...], Any]


def _find(work: _Work) -> _Part:
    """Read the head of the file; True if it is there."""
    intro = f"{LABEL}\n\n"
    if work.request.file is None:
        _, found = yield Step(
            f"{intro}You named no file; let me see which tables are in `/workspace`.",
            (work.todos(0), Call("glob", {"pattern": _CSV_GLOB})),
        )
        files = _paths(found)
        if len(files) != 1:
            yield Step("Which one do you mean?", (work.todos(0, stopped=True),))
            yield Step(_which(files, "Name the one to analyse."))
            return False
        work.file = short_path(files[0])
        intro = ""
    else:
        work.file = short_path(work.request.file)
    if work.file.lower().endswith(".parquet"):
        _, head = yield Step(
            f"{intro}{code(work.file)} is no text, so pandas will read it. Is it there?",
            (work.todos(0), Call("glob", {"pattern": work.file})),
        )
        if _paths(head):
            return True
        head = Result("There is no such file.", ok=False)
    else:
        _, head = yield Step(
            f"{intro}I start with the first lines of {code(work.file)}.",
            (work.todos(0), Call("read", {"filePath": work.file, "limit": 6})),
        )
    if head.ok and not head.text.endswith("(the file is empty)"):
        return True
    _, found = yield Step(
        "That did not work; let me see which tables there are.",
        (work.todos(0, stopped=True), Call("glob", {"pattern": _CSV_GLOB})),
    )
    reason = head.text.strip().splitlines()[0][:300] if head.text.strip() else "no answer"
    yield Step(
        f"I can't read {code(work.file)}: {code(reason)}\n\n"
        + _which(_paths(found), "Name one of them, or put your file there.")
    )
    return False


def _paths(found: Result) -> list[str]:
    lines = found.text.splitlines() if found.ok else []
    return [line for line in lines if line.startswith("/")]


def _which(files: list[str], then: str) -> str:
    if not files:
        return "There is no CSV file in `/workspace`. Put one there and ask again."
    listed = "\n".join(f"- {code(file)}" for file in files[:MAX_LISTED])
    more = f"\n- and {len(files) - MAX_LISTED} more" if len(files) > MAX_LISTED else ""
    return f"These tables are there:\n\n{listed}{more}\n\n{then}"


def _describe(work: _Work) -> _Part:
    """Write the script and let it describe the columns."""
    settings = header(work.file, None, None, None, None, None)
    _, written = yield Step(
        f"I write a small script, {code(work.script)}, that finds out what the columns are.",
        (work.todos(1), Call("write", {"filePath": work.script, "content": script(settings)})),
    )
    if not written.ok:
        yield Step("The script was not written.", (work.todos(1, stopped=True),))
        yield Step(f"I could not write the script, so I stop here:\n\n{tail(written.text)}")
        return None
    return (yield from _run(work, 1, "Now I run it.", "Describe the columns of the table"))


def _compute(work: _Work, choice: Choice, chart: str) -> _Part:
    """Fill in the columns and run the script again."""
    old = header(work.file, None, None, None, None, None)
    target = short_path(chart) if chart else None
    kept = table_path(work.request)
    new = header(work.file, choice.group, choice.value, choice.statistic, target, kept)
    said = _said(choice)
    edit = {"filePath": work.script, "oldString": old, "newString": new}
    notes = "".join(f"{note} " for note in choice.notes)
    _, edited = yield Step(
        f"{notes}I compute {said}: I fill that in at the top of the script.",
        (work.todos(2), Call("edit", edit)),
    )
    if not edited.ok:
        again = {"filePath": work.script, "content": script(new)}
        (written,) = yield Step("Then I write the script anew.", (Call("write", again),))
        if not written.ok:
            yield Step("The script can't be changed.", (work.todos(2, stopped=True),))
            yield Step(f"I could not change the script, so I stop here:\n\n{tail(written.text)}")
            return None
    return (yield from _run(work, 2, "And run it.", f"Compute {choice.statistic} per group"))


def _run(work: _Work, current: int, text: str, description: str) -> _Part:
    """Run the script; its JSON answer, or None after saying why there is none."""
    (ran,) = yield Step(text, (Call("bash", {"command": work.run, "description": description}),))
    if ran.ok and (answer := _json_line(ran.text)) is not None:
        return answer
    yield Step(
        "All right, I don't run it." if ran.rejected else "That did not work.",
        (work.todos(current, stopped=True),),
    )
    where = f"The script is there: {code('/workspace/' + work.script)}"
    if ran.rejected:
        yield Step(
            f"You did not allow me to run Python, so I have no numbers, and I don't make any up. "
            f"{where}; run it yourself with `%agent_shell {work.run}`, or ask me again."
        )
    else:
        yield Step(f"The script failed:\n\n{tail(ran.text)}\n\n{where}.")
    return None


def _json_line(text: str) -> dict[str, Any] | None:
    """The last line that is a JSON object; there may be warnings around it."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict):
                return answer
    return None


def _said(choice: Choice) -> str:
    what = (
        f"the {choice.statistic} of {code(choice.value)}" if choice.value else "the number of rows"
    )
    return f"{what} per {code(choice.group)}" if choice.group else what


def _report(work: _Work, choice: Choice, answer: dict[str, Any], chart: str, note: str) -> str:
    groups = answer["groups"]
    if not groups:
        return f"{code(work.file)} has no usable values for {_said(choice)}."
    title = _said(choice)
    lines = [f"**{title[:1].upper()}{title[1:]}** in {code(work.file)}:", _table(choice, groups)]
    facts = [*choice.notes]
    first, last = groups[0], groups[-1]
    if first["value"] > last["value"]:
        facts.append(
            f"Highest: {code(first['group'])} with {number(first['value'])}; lowest: "
            f"{code(last['group'])} with {number(last['value'])}."
        )
    if answer["all"] > len(groups):
        facts.append(f"These are the first {len(groups)} of {answer['all']} groups.")
    if answer["skipped"]:
        rows = "1 row" if answer["skipped"] == 1 else f"{answer['skipped']} rows"
        facts.append(f"Left out: {rows} without a usable value.")
    if facts:
        lines.append(" ".join(facts))
    if answer["chart"]:
        lines.append(_chart_line(container_path(answer["chart"]), chart, note))
    if answer.get("table"):
        lines.append(f"The table is {code(container_path(answer['table']))}.")
    lines.append(f"The script is {code('/workspace/' + work.script)}.")
    if work.schema is not None:
        lines.append(json_reply(work.schema, groups))
    return "\n\n".join(lines)


def _table(choice: Choice, groups: list[dict[str, Any]]) -> str:
    first = choice.group or ""
    if choice.value is None:
        return table([first, "rows"], [[g["group"], number(g["value"])] for g in groups])
    head = [first, "rows", f"{choice.statistic} of {choice.value}"]
    return table(head, [[g["group"], str(g["rows"]), number(g["value"])] for g in groups])


def _chart_line(made: str, wanted: str, note: str) -> str:
    line = f"The chart is {code(made)}."
    if made != wanted:
        line += " It is an SVG, because matplotlib is not installed in this Python."
    return f"{line} {note}".strip()
