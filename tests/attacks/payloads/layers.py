"""Every place where a text from outside can be shown, in every form that needs no browser."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

from markdown_it import MarkdownIt

from agent_magics.notebook._data import _made
from agent_magics.notebook._errors import TurnFailed
from agent_magics.notebook._manage import _export, _tables
from agent_magics.notebook._turn._permissions import question
from agent_magics.notebook._turn._result_view import one_line_of
from agent_magics.notebook._turn._views import TerminalView
from agent_magics.widgets import Questions, TurnRecord
from agent_magics.widgets._ops import OpWriter
from agent_magics.wire import (
    AgentEvent,
    Artifact,
    Command,
    FileDiff,
    FileEntry,
    FilePart,
    Message,
    MessageInfo,
    PermissionRule,
    ReasoningPart,
    RevertPreview,
    SendResult,
    SessionInfo,
    SessionMetrics,
    TextPart,
    Todo,
    ToolPart,
    ToolState,
    WireError,
)
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    status,
    text,
    thought,
    tool_done,
    tool_failed,
    tool_prints,
    tool_runs,
)
from tests.support.page_audit import NO_REL, find_hidden, find_problems
from tests.support.turn_page import TurnPage

__all__ = ["LAYERS", "events"]

_IDS = ("prt_1", "msg_2", "ses_1")


def events(payload: str) -> Iterator[AgentEvent]:
    """A turn in which everything that comes from outside is `payload`."""
    state = {
        "input": {
            "command": payload,
            "filePath": payload,
            "description": payload,
            payload: payload,
        },
        "output": payload,
        "title": payload,
    }
    yield status("retry", payload)
    yield text(payload)
    yield thought(payload)
    yield tool_runs(payload, "1", input=state["input"])
    yield tool_prints(payload, payload, "1", input=state["input"])
    yield tool_done(payload, "1", **state, metadata={"exit": 1})
    yield tool_failed("bash", "2", error=payload, **state)
    yield tool_done(
        "edit", "3", input={"filePath": payload, "oldString": payload, "newString": "x"}
    )
    yield tool_done("write", "4", input={"filePath": payload, "content": payload})
    yield tool_done("edit", "5", input={"filePath": payload}, metadata={"diff": f"-{payload}\n+x"})
    yield asked("per_1", payload, patterns=(payload,), always=(payload,), metadata={"x": payload})
    yield asked("per_2", "bash", patterns=(payload,), metadata={"command": payload})
    yield asked(
        "per_3", "edit", patterns=(payload,), metadata={"diff": payload, "filepath": payload}
    )
    yield replied(payload)
    yield plan((payload, "pending"), ("x", payload), (payload, "in_progress"))
    yield text(f"Before {payload} after\n\n> {payload}\n\n- {payload}\n", "prt_last")
    yield ended("error", payload)


def _record(payload: str) -> TurnRecord:
    record = TurnRecord()
    record.describe(payload, payload, payload, False)
    for event in events(payload):
        record.handle(event)
    record.note(payload, "warning")
    record.add_image(payload, payload.encode("utf-8", "replace"), payload)
    return record


def _live(payload: str) -> list[str]:
    page, record = TurnPage(), TurnRecord()
    record.describe(payload, payload, payload, False)
    writer = OpWriter(record)
    problems: list[str] = []
    for event in events(payload):
        record.handle(event)
        ops = writer.changes()
        page.apply(ops)
        problems += _commands(ops)
    record.note(payload, "warning")
    page.apply(writer.changes())
    for html in page.texts.values():
        problems += find_problems(html, live=True)
    for shown in (*page.notes, *page.thoughts.values(), *page.live.values()):
        problems += find_hidden(shown)
    return problems


def _commands(ops: list[dict[str, Any]]) -> list[str]:
    """What a question says must be all that there is."""
    found = []
    for op in ops:
        if op["op"] == "ask":
            texts = [op["title"], op["always"] or "", *(b["text"] for b in op["blocks"])]
            found += [c for shown in texts for c in find_hidden(shown, is_command=True)]
    return found


def _html(html: str) -> list[str]:
    """As it is, and in a file of Markdown, into which nbconvert puts it."""
    in_markdown = _READER.render(f"{html}\n")
    return [*find_problems(html), *find_hidden(html), *find_problems(in_markdown)]


def _saved(payload: str) -> list[str]:
    record = _record(payload)
    return [*_html(record.html()), *find_hidden(record.text())]


def _conversation(payload: str) -> tuple[SessionInfo, list[Message]]:
    def tool(name: str, **state: Any) -> ToolPart:
        return ToolPart(*_IDS, name, "call_1", ToolState(**{"status": "completed", **state}))

    parts = (
        TextPart(*_IDS, payload),
        ReasoningPart(*_IDS, payload),
        tool(payload, input={payload: payload}, output=payload, title=payload),
        tool("bash", input={"command": payload, "description": payload}, output=payload),
        tool("grep", status="error", input={"pattern": payload}, error=payload),
        tool("todowrite", input={"todos": [{"content": payload, "status": payload}]}),
        FilePart(*_IDS, payload, f"file:///workspace/{payload}", payload),
    )
    error = WireError(payload, payload)
    info = MessageInfo("msg_2", "ses_1", "assistant", model=payload, error=error)
    user = Message(MessageInfo("msg_1", "ses_1", "user"), (TextPart(*_IDS, payload),))
    return SessionInfo("ses_1", payload), [user, Message(info, parts)]


def _exported_html(payload: str) -> list[str]:
    document = _export._html(*_conversation(payload))
    head, _, body = document.partition("<body>")
    problems = _html(body.replace("</body></html>", ""))
    elements = set(re.findall(r"<([a-z]+)", head))
    return problems + [f"in the head: <{name}>" for name in elements - _HEAD]


_HEAD = {"html", "meta", "title", "style"}
_READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""A reader of Markdown as code hosts and JupyterLab have it: HTML counts, pictures are fetched."""


def _exported_markdown(payload: str) -> list[str]:
    source = _export._markdown(*_conversation(payload))
    html = _READER.render(source)
    problems = [p for p in find_problems(html) if p != NO_REL]  # which Markdown cannot say
    return [*problems, *find_hidden(html)]


def _tables_of(payload: str) -> list[str]:
    session, messages = _conversation(payload)
    file = FileDiff(payload, payload, 1, 1)
    shown = [
        _tables.session_facts(session),
        _tables.sessions_table([session], "", 0),
        _tables.todos_table([Todo(payload, payload, payload)]),
        _tables.messages_table(messages),
        _tables.rules_table([PermissionRule(payload, payload, payload, payload)]),
        _tables.models_table({"providers": [{"id": payload, "models": {payload: {}}}]}, payload),
        _tables.changes_table(RevertPreview(1, (file,)), preview=True),
        _tables.files_table([FileEntry(payload, payload, 1)], payload),
        _tables.files_table([], payload),
        _tables.artifacts_table([Artifact(payload, payload, 1, payload, payload)]),
        _tables.commands_table([Command(payload, payload, payload, (payload,), payload)]),
        _tables.metrics_facts(SessionMetrics("ses_1", tool_usage={payload: 1})),
        Questions([event.request for event in events(payload) if event.type == "permission-asked"]),
    ]
    return _html("".join(each._repr_html_() for each in shown))


def _files(payload: str) -> list[str]:
    table = io.StringIO()
    csv.writer(table).writerows([[payload, "x"], ["1", payload], [payload, payload]])
    page = (
        f"<html><head><title>{payload}</title></head><body {payload}><p title='{payload}'>{payload}"
        f"<table {payload}><tr><td>{payload}</table><!-- {payload} -->{payload}"
    )
    contents = {
        "a.csv": table.getvalue(),
        "a.tsv": payload,
        "a.html": page,
        "b.htm": payload,
        "a.md": f"{payload}\n\n| {payload} |\n|---|\n| {payload} |\n",
        f"{payload}.csv": "a,b\n1,2\n",
        f"{payload}.png": payload,
    }
    problems: list[str] = []
    for name, content in contents.items():
        data = content.encode("utf-8", "replace")
        bundle = _made._bundle(_made.MadeFile(f"/workspace/{name}", len(data), data))
        problems += [*_html(bundle["text/html"]), *find_hidden(bundle["text/plain"])]
        problems += [f"{mime} is given out" for mime in bundle.keys() - {"text/html", "text/plain"}]
    why = _made._bundle(_made.MadeFile(payload, 1, None, payload))
    return problems + _html(why["text/html"])


def _terminal(payload: str) -> list[str]:
    stream = io.StringIO()
    view = TerminalView(stream)
    view.open()
    problems: list[str] = []
    for event in events(payload):
        view.handle(event)
        if event.type == "permission-asked":
            problems += find_hidden(question(event.request), is_command=True)
    view.note(payload, "error")
    view.finish()
    result = SendResult("msg_1", payload, error=WireError(payload, payload))
    (line,) = TurnFailed(payload, name=payload)._render_traceback_()
    return [
        *problems,
        *find_hidden(stream.getvalue()),
        *find_hidden(line),
        *find_hidden(one_line_of(result)),
        *(["a second line"] if "\n" in line else []),
    ]


LAYERS: dict[str, Callable[[str], list[str]]] = {
    "live": _live,
    "saved": _saved,
    "export .html": _exported_html,
    "export .md": _exported_markdown,
    "tables": _tables_of,
    "files": _files,
    "terminal": _terminal,
}
"""Name -> what is wrong with what that layer makes of a payload."""
