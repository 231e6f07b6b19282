from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_magics.client import SessionNotFound
from agent_magics.notebook._frontend import cell_id, current_shell, front_end
from agent_magics.notebook._memory import SessionMemory, notebook_path
from agent_magics.notebook._session import Connection, SessionKeeper, Wanted, keeper_of
from agent_magics.wire import SessionInfo
from tests.support.fake_session import FakeClient, hello


@pytest.fixture
def clients() -> list[tuple[Connection, FakeClient]]:
    return []


@pytest.fixture
def keeper(clients: list[tuple[Connection, FakeClient]]) -> SessionKeeper:
    def open_client(connection: Connection) -> Any:
        clients.append((connection, FakeClient(hello)))
        return clients[-1][1]

    return SessionKeeper(open_client)


def test_nothing_happens_before_it_is_needed(
    keeper: SessionKeeper, clients: list[tuple[Connection, FakeClient]]
) -> None:
    assert keeper.current is None
    assert clients == []
    session = keeper.acquire(Connection(), Wanted())
    assert keeper.current is session
    assert keeper.acquire(Connection(), Wanted()) is session
    assert len(clients) == 1


def test_another_server_means_another_session(
    keeper: SessionKeeper, clients: list[tuple[Connection, FakeClient]]
) -> None:
    first = keeper.acquire(Connection(), Wanted())
    second = keeper.acquire(Connection("http://other", "token"), Wanted())
    assert first is not second
    assert clients[0][1].calls[-1] == ("close",)
    assert [connection.url for connection, _ in clients] == [None, "http://other"]


def test_forget_only_what_is_current(keeper: SessionKeeper) -> None:
    first = keeper.acquire(Connection(), Wanted())
    second = keeper.acquire(Connection(), Wanted(new=True))
    keeper.forget(first)
    assert keeper.current is second
    keeper.forget(second)
    assert keeper.current is None
    assert keeper.acquire(Connection(), Wanted()) is not second


def test_a_title_names_the_session(
    keeper: SessionKeeper, clients: list[tuple[Connection, FakeClient]]
) -> None:
    session: Any = keeper.acquire(Connection(), Wanted(title="One"))
    keeper.acquire(Connection(), Wanted(title="Two"))
    assert clients[0][1].calls == [
        ("create", "One", {"model": None, "sandbox": None, "network": None})
    ]
    assert session.calls == [("update", {"title": "Two"})]


def test_an_unknown_session_does_not_become_the_current_one(keeper: SessionKeeper) -> None:
    current = keeper.acquire(Connection(), Wanted())
    client: Any = keeper.client(Connection())

    def refuse() -> Any:
        raise LookupError("no such session")

    client.session("ses_gone").get_info = refuse
    with pytest.raises(LookupError):
        keeper.acquire(Connection(), Wanted(session_id="ses_gone"))
    assert keeper.current is current


def test_two_threads_get_one_session(keeper: SessionKeeper) -> None:
    sessions: list[Any] = []
    threads = [
        threading.Thread(target=lambda: sessions.append(keeper.acquire(Connection(), Wanted())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(session) for session in sessions}) == 1


def test_the_keeper_is_kept_on_the_shell() -> None:
    class Shell:
        pass

    shell = Shell()
    assert keeper_of(shell) is keeper_of(shell)
    assert keeper_of(None) is keeper_of(None)
    assert keeper_of(shell) is not keeper_of(None)


def test_tokens_do_not_show() -> None:
    assert "hush" not in repr(Connection("http://x", "hush"))


def test_front_ends() -> None:
    class Kernel:
        _allow_stdin = True

    class Shell:
        kernel: Any = Kernel()

    shell = Shell()
    assert front_end(shell) == "kernel"
    shell.kernel._allow_stdin = False
    assert front_end(shell) == "headless"
    assert front_end(None) == "plain"  # tests have no terminal


def test_a_shell_is_found_without_importing_ipython(shell: Any) -> None:
    assert current_shell() is shell


class Restarts:
    """One server with its sessions, and kernels of one notebook that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = RememberingClient(hello)

    def kernel(self, notebook: str = "/home/me/a.ipynb") -> SessionKeeper:
        memory = SessionMemory(notebook, self.folder)
        return SessionKeeper(lambda connection: self.client, memory)  # type: ignore[arg-type,return-value]


class RememberingClient(FakeClient):
    """Unknown sessions are unknown, and some are archived."""

    archived: frozenset[str] = frozenset()

    def session(self, session_id: str) -> Any:
        session = super().session(session_id)

        def get_info() -> SessionInfo:
            if session_id in self.gone:
                raise SessionNotFound("no such session")
            is_archived = session_id in self.archived
            return SessionInfo(session_id, "Mine", archived=is_archived, sandbox="bubblewrap")

        session.get_info = get_info
        return session

    gone: frozenset[str] = frozenset()


@pytest.fixture
def restarts(tmp_path: Path) -> Restarts:
    return Restarts(tmp_path / "data")


def test_a_restarted_kernel_goes_on_with_its_notebooks_session(restarts: Restarts) -> None:
    first = restarts.kernel()
    made = first.acquire(Connection(), Wanted())
    assert first.news() == ""
    second = restarts.kernel()
    assert second.acquire(Connection(), Wanted()).id == made.id
    assert "'Mine'" in second.news() and second.news() == ""
    assert restarts.kernel("/home/me/b.ipynb").acquire(Connection(), Wanted()).id != made.id
    assert restarts.kernel("").acquire(Connection(), Wanted()).id != made.id


def test_what_is_not_gone_on_with(restarts: Restarts) -> None:
    made = restarts.kernel().acquire(Connection(), Wanted())
    assert restarts.kernel().acquire(Connection("http://other"), Wanted()).id != made.id
    restarts.kernel().use(made)
    assert restarts.kernel().acquire(Connection(), Wanted(sandbox="local")).id != made.id
    restarts.kernel().use(made)
    assert restarts.kernel().acquire(Connection(), Wanted(new=True)).id != made.id
    restarts.kernel().use(made)
    restarts.client.archived = frozenset({made.id})
    assert restarts.kernel().acquire(Connection(), Wanted()).id != made.id
    restarts.kernel().use(made)
    restarts.client.archived, restarts.client.gone = frozenset(), frozenset({made.id})
    assert restarts.kernel().acquire(Connection(), Wanted()).id != made.id


def test_a_session_that_was_ended_is_forgotten(restarts: Restarts) -> None:
    keeper = restarts.kernel()
    made = keeper.acquire(Connection(), Wanted())
    keeper.forget(made)
    assert restarts.kernel().recall(Connection()) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"/home/me/a.ipynb": 1}', "\xff"])
def test_a_damaged_memory_is_no_obstacle(restarts: Restarts, content: str) -> None:
    restarts.folder.mkdir()
    (restarts.folder / "notebooks.json").write_text(content)
    made = restarts.kernel().acquire(Connection(), Wanted())
    assert restarts.kernel().acquire(Connection(), Wanted()).id == made.id


def test_a_memory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    SessionMemory("/a.ipynb", tmp_path / "file").remember("", "ses_1")
    assert SessionMemory("/a.ipynb", tmp_path / "file").recall("") == ""


def test_old_notebooks_are_dropped(tmp_path: Path) -> None:
    for number in range(510):
        SessionMemory(f"/{number}.ipynb", tmp_path).remember("", f"ses_{number}")
    assert SessionMemory("/9.ipynb", tmp_path).recall("") == ""
    assert SessionMemory("/10.ipynb", tmp_path).recall("") == "ses_10"
    assert (tmp_path / "notebooks.json").stat().st_mode & 0o077 == 0


def test_whose_notebook_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    in_jupyter = SimpleNamespace(user_ns={}, kernel=object())
    assert notebook_path(None) == notebook_path(in_jupyter) == ""
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/lab.ipynb")
    assert notebook_path(in_jupyter) == "/home/me/lab.ipynb"
    names = {"__vsc_ipynb_file__": "/home/me/code.ipynb"}
    in_vscode = SimpleNamespace(user_ns=names, kernel=object())
    assert notebook_path(in_vscode) == "/home/me/code.ipynb"
    in_terminal = SimpleNamespace(user_ns={})  # begun by a cell's !ipython
    assert notebook_path(in_terminal) == ""


def test_a_notebook_whose_name_comes_later(tmp_path: Path) -> None:
    names: list[str] = [""]
    memory = SessionMemory(lambda: names[0], tmp_path)
    memory.remember("", "ses_0")
    names[0] = "/a.ipynb"
    assert memory.recall("") == ""
    memory.remember("", "ses_1")
    assert SessionMemory("/a.ipynb", tmp_path).recall("") == "ses_1"


class Notebook:
    """A file with one cell, in which kernels run."""

    def __init__(self, path: Path, data: Path, cell: str) -> None:
        self.path, self._data, self._cell = path, data, cell
        path.write_text(json.dumps({"cells": [{}, {"id": cell}]}))

    def memory(self) -> SessionMemory:
        return SessionMemory(str(self.path), self._data, lambda: self._cell)


def test_a_renamed_notebook_is_known_by_its_cells(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "Untitled.ipynb", tmp_path / "data", "a1b2")
    notebook.memory().remember("", "ses_1")
    copy = Notebook(tmp_path / "copy.ipynb", tmp_path / "data", "a1b2")
    assert copy.memory().recall("") == ""  # the first one is there as before
    notebook.path = notebook.path.rename(tmp_path / "analysis.ipynb")
    assert notebook.memory().recall("") == "ses_1"
    assert Notebook(tmp_path / "other.ipynb", tmp_path / "data", "c3").memory().recall("") == ""
    notebook.memory().remember("", "ses_1")  # under its new name from now on
    again = Notebook(tmp_path / "Untitled.ipynb", tmp_path / "data", "a1b2")
    assert again.memory().recall("") == ""
    notebook.memory().remember("", "")
    assert notebook.memory().recall("") == ""


@pytest.mark.parametrize("content", ["", "[]", '{"cells": [1]}', '{"cells": 1}', "\xff"])
def test_a_notebook_that_cannot_be_read_is_another_one(tmp_path: Path, content: str) -> None:
    SessionMemory("/gone.ipynb", tmp_path, lambda: "a1b2").remember("", "ses_1")
    new = tmp_path / "new.ipynb"
    new.write_text(content)
    assert SessionMemory(str(new), tmp_path).recall("") == ""
    assert SessionMemory("/also/gone.ipynb", tmp_path).recall("") == ""


def test_the_front_end_tells_the_cell() -> None:
    def shell(parent: Any) -> Any:
        return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent))

    assert cell_id(shell({"metadata": {"cellId": "a1b2"}})) == "a1b2"
    for parent in ({}, {"metadata": None}, {"metadata": {"cellId": 3}}):
        assert cell_id(shell(parent)) == ""
    assert cell_id(None) == cell_id(SimpleNamespace()) == ""


def test_an_earlier_kernels_session_is_recalled_once(restarts: Restarts) -> None:
    first = restarts.kernel()
    made = first.acquire(Connection(), Wanted())
    assert not first.take_recalled(made.id)
    second = restarts.kernel()
    second.acquire(Connection(), Wanted())
    assert second.take_recalled(made.id) and not second.take_recalled(made.id)
