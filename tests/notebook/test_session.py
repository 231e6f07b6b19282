from __future__ import annotations

import threading
from typing import Any

import pytest

from agent_magics.notebook._frontend import current_shell, front_end
from agent_magics.notebook._session import Connection, SessionKeeper, Wanted, keeper_of
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
    assert clients[0][1].calls == [("create", "One", {"model": None, "sandbox": None})]
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
