"""Recorded turns: what the file has, and what a replay shows and returns."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError

from agent_magics.client import CommandCall, FileInput, TextInput
from agent_magics.notebook import TurnFailed, TurnInterrupted, ask
from agent_magics.notebook._replay import _replay
from agent_magics.notebook._replay._recording import (
    Entry,
    Image,
    Recording,
    prompt_text,
    read_recording,
    write_recording,
)
from agent_magics.notebook._replay._replay import Pace, replay_turn
from agent_magics.notebook._turn._views import TerminalView
from agent_magics.wire import (
    AgentEvent,
    Artifact,
    ArtifactCreated,
    Attachment,
    Compacted,
    CompactionPart,
    FilePart,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    ReasoningDelta,
    ReasoningPart,
    SendResult,
    SessionInfo,
    StatusChanged,
    StepFinished,
    StepFinishPart,
    StepStartPart,
    TextDelta,
    TextPart,
    Todo,
    TodosUpdated,
    Tokens,
    ToolComplete,
    ToolFailed,
    ToolPart,
    ToolStart,
    ToolState,
    ToolUpdate,
    TurnEnded,
    TurnStarted,
    UnknownPart,
    WireError,
)
from tests.support.fake_session import PNG, FakeClient, FakeTurn, broken, full, install
from tests.support.signals import stop_when

IDS = ("msg_1", "ses_1")
STATE = ToolState("completed", {"command": "ls"}, "{}", "ls", "a\u2028b \ud800", "", {"exit": 0})
TOOL = ToolPart("prt_1", *IDS, "bash", "call_1", replace(STATE, time_start=1, time_end=5))
FILE = FilePart("prt_2", *IDS, "image/png", "file:///workspace/a.png", "a.png")
STEP = StepFinishPart("prt_3", *IDS, "stop", Tokens(1, 2, 3, 4, 5), 0.25)
PARTS = (
    TextPart("prt_4", *IDS, "hi", True, False),
    ReasoningPart("prt_5", *IDS, "hm"),
    TOOL,
    FILE,
    StepStartPart("prt_6", *IDS),
    STEP,
    CompactionPart("prt_7", *IDS, True),
    UnknownPart("prt_8", *IDS, "novel", {"type": "novel", "x": [1]}),
)
REQUEST = PermissionRequest("per_1", "ses_1", "bash", ("ls",), ("ls *",), {"command": "ls"})
RESULT = SendResult("msg_2", "hi", PARTS, Tokens(1), None, WireError("E", "m", {"message": "m"}))
EVENTS: tuple[AgentEvent, ...] = (
    TurnStarted("msg_1", "demo/guide"),
    StatusChanged("retry", "later", 2, 1_000),
    TextDelta("hi {x} 'é'", "prt_4"),
    ReasoningDelta("hm", "prt_5"),
    ToolStart(TOOL),
    ToolUpdate(TOOL, "out", "stderr"),
    PermissionAsked(REQUEST),
    PermissionReplied("per_1", "once"),
    ToolComplete(TOOL),
    ToolFailed(TOOL),
    TodosUpdated((Todo("a", "completed", "high"), Todo("b"))),
    Attachment(FILE),
    ArtifactCreated(Artifact("a.md", "text/markdown", 3)),
    Compacted("msg_3"),
    StepFinished(STEP),
    TurnEnded("error", RESULT),
)
HERE = SessionInfo("ses_1", "A title", model="demo/guide", sandbox="bubblewrap")


def recording(*events: AgentEvent | Image, apart: float = 0.25) -> Recording:
    entries = tuple(Entry(number * apart, event) for number, event in enumerate(events))
    return Recording("do {it}", HERE, entries, "demo/guide", "2026-01-31T12:00:00Z")


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, full)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


# -- the file


def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "turn.jsonl"
    whole = recording(*EVENTS[:-1], Image("a.png", "image/png", PNG), EVENTS[-1])
    write_recording(path, whole)
    assert read_recording(path) == whole
    assert list(tmp_path.iterdir()) == [path]
    head, *lines = path.read_text("utf-8", "surrogatepass").split("\n")[:-1]
    assert json.loads(head)["version"] == 1 and json.loads(head)["prompt"] == "do {it}"
    assert [json.loads(line)["at"] for line in lines[:3]] == [0, 0.25, 0.5]


def test_what_a_newer_writer_adds_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "turn.jsonl"
    write_recording(path, recording(*EVENTS))
    lines = [json.loads(line) for line in path.read_text("utf-8", "surrogatepass").splitlines()[:1]]
    rest = path.read_text("utf-8", "surrogatepass").split("\n")[1:]
    lines[0] |= {"novel": 1}
    lines[0]["session"]["novel"] = 2
    text = "\n".join([json.dumps(lines[0]), *rest])
    path.write_text(text, "utf-8", "surrogatepass")
    assert read_recording(path) == recording(*EVENTS)


def damaged(text: str, what: str) -> str:
    lines = text.split("\n")
    change = {
        "empty": lambda: "",
        "other": lambda: "a,b\n1,2\n",
        "json": lambda: '{"format": "something"}\n',
        "deep": lambda: "[" * 100_000,
        "no version": lambda: text.replace('"version":1', '"version":"1"'),
        "newer": lambda: text.replace('"version":1', '"version":2'),
        "cut": lambda: "\n".join(lines[:4]),
        "torn": lambda: text[: len(text) // 2],
        "only a head": lambda: lines[0],
        "no session": lambda: text.replace('"session":', '"other":'),
        "kind": lambda: text.replace('"type":"turn-started"', '"type":"novel"'),
        "missing": lambda: text.replace('"message_id":"msg_1",', "", 1),
        "number": lambda: text.replace('"at":0.25', '"at":"soon"'),
        "order": lambda: text.replace('"at":0.25', '"at":900'),
        "infinite": lambda: text.replace('"at":0.25', '"at":1e999'),
        "type": lambda: text.replace('"delta":"hi"', '"delta":["hi"]'),
        "list": lambda: "\n".join([lines[0], "[]", *lines[1:]]),
        "empty line": lambda: text.replace('"event":', '"novel":'),
        "image": lambda: text.replace('"data":"iVBO', '"data":"*'),
        "no image": lambda: text.replace('"mime":"image/png","data"', '"mime":3,"data"'),
    }
    return change[what]()


@pytest.mark.parametrize(
    "what",
    [
        "empty",
        "other",
        "json",
        "deep",
        "no version",
        "newer",
        "cut",
        "torn",
        "only a head",
        "no session",
        "kind",
        "type",
        "missing",
        "number",
        "order",
        "infinite",
        "list",
        "empty line",
        "image",
        "no image",
    ],
)
def test_damaged_files_are_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "turn.jsonl"
    events = [TurnStarted("msg_1"), TextDelta("hi"), Image("a.png", "image/png", PNG)]
    write_recording(path, recording(*events, TurnEnded("completed", SendResult("msg_2", "hi"))))
    text = path.read_text()
    assert damaged(text, what) != text
    path.write_text(damaged(text, what))
    with pytest.raises(UsageError, match=r"turn\.jsonl") as raised:
        read_recording(path)
    if what == "newer":
        assert "version 2" in str(raised.value) and "upgrade" in str(raised.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary", "."):
        with pytest.raises(UsageError, match="--replay"):
            read_recording(tmp_path / name)


def test_the_prompt_as_a_person_wrote_it() -> None:
    assert prompt_text("a") == "a"
    assert prompt_text(["a", TextInput("b"), FileInput(b"x")]) == "a\n\nb"
    assert prompt_text({"parts": [{"type": "text", "text": "c"}, {"type": "file"}]}) == "c"
    assert prompt_text(CommandCall("profile", "x.csv")) == "/profile x.csv"


# -- the replay


def test_it_shows_and_returns_what_the_turn_did(capsys: pytest.CaptureFixture[str]) -> None:
    events = [*EVENTS[:1], *EVENTS[2:-1]]
    ended = TurnEnded("completed", replace(RESULT, error=None))
    result = replay_turn(recording(*events, ended), Pace(0))
    assert result == ended.result
    out = capsys.readouterr().out
    assert out.startswith("[agent] Replay of a turn of 2026-01-31: do {it}\n")
    assert "hi {x} 'é'" in out and "[bash] ls" in out and "[permission] once" in out
    assert "[plan]\n  [x] a\n  [ ] b\n" in out


def test_the_same_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for _ in range(2):
        with pytest.raises(TurnFailed, match="as recorded: m") as raised:
            replay_turn(recording(*EVENTS), Pace(0))
        assert raised.value.result == RESULT and raised.value.name == "E"
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


def test_a_turn_that_was_stopped() -> None:
    ended = TurnEnded("aborted", SendResult("msg_2", ""))
    with pytest.raises(TurnFailed, match="ended as aborted"):
        replay_turn(recording(ended), Pace(0))


def test_it_keeps_the_time_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(_replay.time, "monotonic", lambda: sum(waits))

    def get(self: Any, timeout: float) -> None:
        waits.append(timeout)

    monkeypatch.setattr("agent_magics.notebook._turn._pump.CommPump.get", get)
    ended = TurnEnded("completed", SendResult("msg_2", ""))
    for speed, seconds in ((1.0, 8.0), (2.0, 4.0), (0.0, 0.0)):
        waits.clear()
        replay_turn(recording(TurnStarted("msg_1"), TextDelta("a"), ended, apart=4), Pace(speed))
        assert sum(waits) == pytest.approx(seconds)


def test_stop_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = threading.Event()
    monkeypatch.setattr(TerminalView, "handle", lambda self, event: drawn.set())
    ended = TurnEnded("completed", SendResult("msg_2", ""))
    long = recording(TextDelta("first"), TextDelta("never"), ended, apart=3600)
    stop_when(drawn.is_set)
    with pytest.raises(TurnInterrupted):
        replay_turn(long, Pace())


@pytest.mark.parametrize(("typed", "asked"), [(["", "", ""], 3), (["r"], 1), ([], 1)])
def test_step_by_step_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], asked: int
) -> None:
    monkeypatch.setattr(_replay, "front_end", lambda shell: "terminal")
    questions: list[str] = []

    def answer(prompt: str = "") -> str:
        questions.append(prompt)
        if len(questions) > len(typed):
            raise EOFError
        return typed[len(questions) - 1]

    monkeypatch.setattr(builtins, "input", answer)
    ended = TurnEnded("completed", SendResult("msg_2", ""))
    steps = (TextDelta("a", "1"), TextDelta("b", "1"), ToolStart(TOOL), PermissionAsked(REQUEST))
    replay_turn(recording(*steps, ended), Pace(0, by_step=True))
    assert len(questions) == asked and "Enter" in questions[0]


def test_headless_it_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("nobody is there"))
    ended = TurnEnded("completed", SendResult("msg_2", ""))
    replay_turn(recording(TextDelta("a"), ended), Pace(0, by_step=True))


# -- through the magics


def test_record_and_replay(shell: Any, client: FakeClient, tmp_path: Path) -> None:
    file = tmp_path / "turn.jsonl"
    assert shell.run_cell(f"%%agent --permissions once --record {file}\nlook around").success
    live = shell.user_ns["_agent"]
    kept = read_recording(file)
    assert kept.prompt == "look around" and kept.session.id == "ses_fake1"
    assert Image("mass.png", "image/png", PNG) in [entry.what for entry in kept.entries]
    client.calls.clear()
    client.sessions.clear()
    assert shell.run_cell(f"%agent --replay {file} --speed 0 --out again").success
    assert shell.user_ns["again"] == live == shell.user_ns["_agent"]
    assert not client.sessions and not client.calls
    assert ask(replay=file, speed=0) == live


def test_a_failed_turn_is_recorded_as_well(
    shell: Any, client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turn.jsonl"
    client.script = broken
    with pytest.raises(TurnFailed, match="500"):
        ask("hi", record=file)
    with pytest.raises(TurnFailed, match="500") as raised:
        ask(replay=file, speed=0)
    assert raised.value.result is not None and raised.value.result.text == "It began well"


def test_a_turn_without_an_end_is_not_written(
    client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(turn: FakeTurn) -> None:
        raise AssertionError("never started")

    client.script = refused
    client.session("ses_fake1").start_error = RuntimeError("no")
    with pytest.raises(TurnFailed, match="no"):
        ask("hi", record=tmp_path / "turn.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_another_prompt_is_noticed(
    shell: Any, client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turn.jsonl"
    ask("look around", record=file, permissions="once")
    capsys.readouterr()
    for prompt, noted in (("look around", False), ("something else", True)):
        shell.run_cell(f"%%agent --speed 0 --replay {file} --with missing\n{prompt}")
        assert ("another prompt" in capsys.readouterr().out) is noted


def test_options_that_do_not_go_together(
    shell: Any, client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turn.jsonl"
    lines = {
        f"--record {file} --replay {file} hi": "recorded or replayed",
        f"-b --record {file} hi": "-b goes with neither",
        "--step hi": "--replay",
        "--speed -1 hi": "speed",
        f"--replay {tmp_path / 'none'}": "No such file",
        f"--record {tmp_path} hi": "no file can be written",
        f"--record {tmp_path / 'no' / 'x'} hi": "no file can be written",
    }
    for line, told in lines.items():
        assert not shell.run_cell(f"%agent {line}").success
        assert told in capsys.readouterr().err, line
    assert not client.sessions
    with pytest.raises(UsageError, match="replay"):
        ask("hi", step=True)
    with pytest.raises(ValueError, match="speed"):
        ask(replay=file, speed=float("nan"))
