"""All payloads in the cells of a notebook: the functions here run in its kernel."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

from IPython.display import HTML, display

from agent_magics.notebook._data import _made
from agent_magics.notebook._errors import TurnFailed
from agent_magics.notebook._manage import _tables
from agent_magics.widgets import Questions, TurnRecord
from agent_magics.wire import AgentEvent, FileEntry, PermissionRequest, SessionInfo, Todo
from tests.support.agent_events import asked, plan, replied, status, text, thought, tool_done
from tests.support.fake_session import FakeTurn, Script

from . import PAYLOADS

__all__ = ["END", "attack", "events", "show_errors", "show_files", "show_records", "show_tables"]

END = "The end of it all."
_ROWS = 10
"""Of a CSV file so many are shown."""
_SHOWN = [payload for payload in PAYLOADS if payload.kind != "sizes"]
"""Long texts only cost the page's time."""
_WORST = [each for n, each in enumerate(_SHOWN) if each.kind == "tex" or n % 12 == 0]
"""What a front end is given live, where each costs most: a typesetter is what it adds."""


def attack(url: str) -> Script:
    """A turn with the worst payloads in what an agent and its tools say, and an open question."""

    def run(turn: FakeTurn) -> None:
        turn.emit(plan(*((each.at(url), "pending") for each in _SHOWN[::20])))
        for payload in _WORST:
            for event in events(payload.at(url), payload.id):
                turn.emit(event)
        for payload in _WORST[::20]:
            text_of = payload.at(url)
            fields = {"patterns": (text_of,), "always": (text_of,), "metadata": {"x": text_of}}
            turn.emit(asked(payload.id, text_of, **fields))
            turn.emit(replied("reject", payload.id))
        reply = turn.ask("echo the question", "per_open")
        turn.emit(text(f"{END} {reply}", "prt_end"))

    return run


def events(payload: str, id: str) -> Iterator[AgentEvent]:
    """The payload in what an agent and a tool say."""
    yield status("retry", payload)
    yield text(payload, f"prt_{id}")
    yield thought(payload, f"prt_r{id}")
    yield tool_done(payload, id, input={"command": payload}, output=payload, title=payload)


def show_records(url: str) -> None:
    """What turns leave in a saved notebook: all payloads, some in each."""
    for start in range(0, len(_SHOWN), 150):
        record = TurnRecord()
        record.describe(_SHOWN[start].at(url), _SHOWN[start].at(url), "bubblewrap", True)
        for payload in _SHOWN[start : start + 150]:
            for event in events(payload.at(url), payload.id):
                record.handle(event)
        display({"text/html": record.html(), "text/plain": record.text()}, raw=True)


def _show(*shown: Any) -> None:
    """As one output: JupyterLab draws the first 50 of a cell."""
    display(HTML("".join(each._repr_html_() for each in shown)))


def show_tables(url: str) -> None:
    """The tables of the magics, and what asks for an answer."""
    texts = [payload.at(url) for payload in _SHOWN]
    _show(
        _tables.todos_table([Todo(each, each, each) for each in texts]),
        _tables.sessions_table([SessionInfo("ses_1", each) for each in texts], "", 0),
        _tables.files_table([FileEntry(each, "file", 1) for each in texts], "/workspace"),
        Questions(
            PermissionRequest("per_1", "ses_1", each, (each,), (each,), {"command": each})
            for each in texts
        ),
        *(_tables.session_facts(SessionInfo("ses_1", each)) for each in texts[::20]),
    )


def show_files(url: str) -> None:
    """What is shown below a turn that has made files."""
    texts = [payload.at(url) for payload in _SHOWN]
    files = []
    for start in range(0, len(texts), _ROWS):
        some = texts[start : start + _ROWS]
        table = io.StringIO()
        csv.writer(table).writerows([[each, each] for each in some])
        files.append(("t.csv", table.getvalue()))
        files.append(("t.md", "\n\n".join(f"| {each} |\n|---|\n| x |\n\n{each}" for each in some)))
        files.append(("t.html", "".join(f"<p title='{each}'>{each}</p>{each}" for each in some)))
        files.append((f"{some[0]}.csv", "a,b\n1,2\n"))
    made = [(name, content.encode("utf-8", "replace")) for name, content in files]
    _show(
        *(
            HTML(_made._bundle(_made.MadeFile(f"/workspace/{name}", len(data), data))["text/html"])
            for name, data in made
        )
    )


def show_errors(url: str) -> None:
    """How a cell that failed says why."""
    for payload in _SHOWN:
        error = TurnFailed(payload.at(url), name=payload.at(url))
        sys.stderr.write("\n".join(error._render_traceback_()) + "\n")
