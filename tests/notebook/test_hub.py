"""The panel's side in the kernel, without a kernel: what it refuses, and how things are put."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_magics.client import ConnectionFailed, SessionNotFound
from agent_magics.notebook._hub._actions import Transfers
from agent_magics.notebook._hub._door import REQUEST, close_door, open_door
from agent_magics.notebook._hub._events import LOST, SessionEvents
from agent_magics.notebook._hub._hub import Hub, Request
from agent_magics.notebook._hub._mirror import Mirror
from agent_magics.notebook._hub._state import (
    history_json,
    listing_json,
    permission_json,
    session_json,
    sessions_json,
    status_of,
)
from agent_magics.notebook._session import Connection, Wanted, keeper_of
from agent_magics.wire import (
    FileEntry,
    Message,
    MessageInfo,
    PermissionRequest,
    SessionInfo,
    SessionMetrics,
    Tokens,
    WireError,
)
from tests.support import fake_session
from tests.support.waiting import wait_until

ASKED = PermissionRequest("per_1", "ses_1", "bash", ("rm a",), ("rm *",), {"command": "rm a\u202e"})


class FakeChannel:
    """`sent` are the messages to one front end."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.is_closed = False

    def send(self, data: Any, metadata: Any = None, buffers: Any = None) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    "data",
    [None, [], {"client": "a", "id": "b"}, {"client": "a", "id": 1, "action": "x"}],
    ids=str,
)
def test_what_is_no_request(data: Any) -> None:
    with pytest.raises(ValueError):
        Request.from_json(data)


def test_arguments_are_an_object() -> None:
    words = {"client": "a", "id": "b", "action": "x"}
    assert Request.from_json({**words, "args": None}).args == {}
    with pytest.raises(ValueError, match="args"):
        Request.from_json({**words, "args": [1]})


def test_a_status_for_people() -> None:
    def status(name: str, *asked: PermissionRequest) -> str:
        return status_of(SessionInfo("ses_1", "t", status=name), asked)

    assert status_of(None, ()) == "none"
    assert [status(name) for name in ("idle", "busy", "compacting", "retry", "error")] == [
        "ready",
        "working",
        "working",
        "working",
        "error",
    ]
    assert status("busy", ASKED) == "waiting"


def test_nothing_that_is_shown_hides_or_reorders_text() -> None:
    asked = permission_json(ASKED)
    assert [block["text"] for block in asked["blocks"]] == ["rm a⟦U+202E⟧"]
    assert "rm *" in asked["always"]
    info = SessionInfo("ses_1", "a\u202eb", error=WireError("E", "x\u200fy"))
    assert session_json(info)["title"] == "a⟦U+202E⟧b"
    assert session_json(info)["error"] == "x⟦U+200F⟧y"
    listing = listing_json([FileEntry("/w/b\u202e", "file", 3), FileEntry("/w/z", "directory")])
    assert [entry["name"] for entry in listing["entries"]] == ["z", "b⟦U+202E⟧"]
    assert listing["entries"][1]["path"] == "/w/b\u202e"


def test_sub_agents_and_the_archive_are_not_offered() -> None:
    found = [
        SessionInfo("old", "", time_updated=1),
        SessionInfo("new", "", time_updated=3),
        SessionInfo("child", "", parent_id="new", time_updated=4),
        SessionInfo("archived", "", archived=True, time_updated=5),
        SessionInfo("mine", "", archived=True, time_updated=2),
    ]
    assert [one["id"] for one in sessions_json(found, "mine")] == ["new", "mine", "old"]


def test_usage_is_told_turn_by_turn() -> None:
    def message(parent: str, tokens: int, cost: float | None, role: str = "assistant") -> Message:
        info = MessageInfo("m", "s", role, parent_id=parent, tokens=Tokens(tokens), cost=cost)
        return Message(info, ())

    messages = [message("a", 1, 0.5, "user"), message("a", 1, 0.5), message("a", 2, 0.25)]
    history = history_json([*messages, message("b", 3, None), message("b", 1, 0.5)])
    assert history == [{"tokens": 3, "cost": 0.75}, {"tokens": 4, "cost": None}]


def test_downloads_and_uploads_that_lost_a_piece() -> None:
    transfers = Transfers()
    assert transfers.chunk("d", 0, lambda: b"abc") == (b"abc", 3)
    with pytest.raises(ValueError, match="start it again"):
        transfers.chunk("d", 1, lambda: b"abc")
    assert transfers.add("u", 0, b"ab", last=False) is None
    with pytest.raises(ValueError, match="lost a piece"):
        transfers.add("u", 3, b"c", last=True)
    assert transfers.add("u", 2, b"c", last=True) == b"abc"
    with pytest.raises(ValueError, match="more than 64 MB"):
        transfers.chunk("large", 0, lambda: bytes((64 << 20) + 1))


def test_front_ends_come_and_go(shell: Any) -> None:
    fake_session.install(shell, fake_session.hello)
    channels: dict[str, FakeChannel] = {}

    def open_channel(client: str) -> FakeChannel:
        channels[client] = FakeChannel()
        return channels[client]

    hub = Hub(shell, open_channel)
    with pytest.raises(ValueError, match="no action 'x'"):
        hub.take(Request("a", "1", "x", {}))
    for number in range(9):
        hub.take(Request(f"page{number}", "1", "attach", {}))
        wait_until(lambda n=number: f"page{n}" in channels and channels[f"page{n}"].sent)
    wait_until(lambda: sum(channel.is_closed for channel in channels.values()) == 1)
    assert channels["page0"].is_closed
    hub.take(Request("page8", "2", "use", {"id": 3}))
    wait_until(lambda: channels["page8"].sent[-1]["type"] == "result")
    assert channels["page8"].sent[-1]["message"] == "id must be a text"
    hub.close()
    assert all(channel.is_closed for channel in channels.values())


def test_whoever_listens_hears_of_another_session(shell: Any) -> None:
    fake_session.install(shell, fake_session.hello)
    keeper, heard = keeper_of(shell), []
    keeper.listeners.append(lambda: heard.append(keeper.current))
    made = keeper.acquire(Connection(), Wanted())
    keeper.acquire(Connection(), Wanted())
    keeper.forget(made)
    assert heard == [made, None]


def test_a_shell_without_a_kernel_has_no_door(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    open_door(shell)
    handlers: dict[str, Any] = {}
    kernel = SimpleNamespace(control_handlers=handlers)
    monkeypatch.setattr(shell, "kernel", kernel, raising=False)
    open_door(shell)
    assert list(handlers) == [REQUEST]
    close_door(shell)
    close_door(shell)
    assert handlers == {}


def test_a_lost_engine_is_asked_once_and_shown(shell: Any) -> None:
    """Each question may start an engine that can't start: cells would wait behind them."""
    fake_session.install(shell, fake_session.hello)
    session: Any = keeper_of(shell).acquire(Connection(), Wanted())
    asked: list[str] = []
    lost = [False]

    def look(name: str, value: Any) -> Any:
        def call(*_args: object) -> Any:
            asked.append(name)
            if lost[0]:
                raise ConnectionFailed("The engine can't start: no config.")
            return value

        return call

    session.get_info = look("info", SessionInfo(session.id, "t", status="busy"))
    session.get_permissions = look("permissions", [ASKED])
    for name in ("get_todos", "get_messages", "list_files", "list_artifacts"):
        setattr(session, name, look(name, []))
    session.get_metrics = look("metrics", SessionMetrics(session.id))
    session.parsed_events = lambda: FakeStream([])
    states: list[Mapping[str, Any]] = []
    mirror = Mirror(shell, states.append)
    mirror.start()
    wait_until(lambda: bool(states))
    assert (states[-1]["status"], states[-1]["problem"]) == ("waiting", "")
    lost[0] = True
    asked.clear()
    mirror.refresh_all()
    wait_until(lambda: states[-1]["status"] == "error")
    assert states[-1]["problem"] == "The engine can't start: no config."
    assert states[-1]["permissions"] == [] and asked == ["info"], asked
    lost[0] = False
    mirror.refresh({"todos"})
    wait_until(lambda: "get_todos" in asked)
    assert states[-1]["status"] == "error", "nothing is known before it is asked for"
    mirror.refresh_all()
    wait_until(lambda: states[-1]["status"] == "waiting")
    assert states[-1]["problem"] == "" and len(states[-1]["permissions"]) == 1
    mirror.close()


class FakeStream:
    """Yields `kinds`, then what ends it: an exception, or `close()`."""

    def __init__(self, kinds: list[str], error: Exception | None = None) -> None:
        self._kinds, self._error, self._closed = kinds, error, threading.Event()

    def __iter__(self) -> Iterator[SimpleNamespace]:
        yield from (SimpleNamespace(type=kind) for kind in self._kinds)
        if self._error is not None:
            raise self._error
        assert self._closed.wait(30)

    def close(self) -> None:
        self._closed.set()


def test_events_of_one_session_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_magics.notebook._hub._events._PAUSE", 0)
    told: list[str] = []
    streams = [FakeStream(["a"], ConnectionFailed("gone")), FakeStream(["b"])]
    first = SimpleNamespace(parsed_events=lambda: streams.pop(0))
    second = SimpleNamespace(parsed_events=lambda: FakeStream(["c"], SessionNotFound("gone")))
    events = SessionEvents(told.append)
    events.follow(cast("Any", first))
    wait_until(lambda: told == ["a", LOST, "b"])
    events.follow(cast("Any", second))
    wait_until(lambda: told == ["a", LOST, "b", "c"])
    events.follow(None)
