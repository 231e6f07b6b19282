from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent_magics.client import (
    ConnectionFailed,
    EngineLauncher,
    EngineNotResponding,
    EngineStartError,
    ProtocolMismatch,
    StateDir,
    ensure_engine,
)
from agent_magics.client import _launch as launch
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "tests.support.standin_engine")


@pytest.fixture
def state(short_dir: Path) -> Iterator[StateDir]:
    state = StateDir(short_dir / "state")
    yield state
    for pid in started(state):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not any(launch.is_alive(pid) for pid in started(state)))


def started(state: StateDir) -> list[int]:
    """The processes that were started, in order."""
    path = state.path / "started"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def launcher(state: StateDir, mode: str = "", **options: Any) -> EngineLauncher:
    environ = {**os.environ, "STANDIN": mode, "PYTHONPATH": str(ROOT)}
    return EngineLauncher(state, **{"command": COMMAND, "environ": environ, **options})


def stopped_engine(state: StateDir, mode: str = "") -> int:
    """An engine that was started, and answers nothing any more."""
    pid = launcher(state, mode).ensure().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_it_is_started_once_and_found_again(state: StateDir) -> None:
    endpoint = launcher(state).ensure()
    assert endpoint.uds == str(state.socket)
    assert endpoint.token == "t"
    assert "t'" not in repr(endpoint)
    assert launcher(state).ensure() == endpoint
    assert started(state) == [endpoint.pid]


def test_it_is_detached_and_its_files_are_private(state: StateDir) -> None:
    pid = launcher(state).ensure().pid
    assert pid is not None
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/1") == str(state.log)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.log.stat().st_mode) == 0o600
    assert "a line in the log" in state.log.read_text()


def test_no_descriptor_leaks(state: StateDir) -> None:
    launcher(state).ensure()
    before = os.listdir("/proc/self/fd")
    pid = launcher(state).ensure().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not launch.is_alive(pid))
    launcher(state).ensure()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_many_threads_and_processes_start_one(state: StateDir) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.client import test_launch as t;"
        "print(t.launcher(t.StateDir(Path(sys.argv[1]))).ensure().pid)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(state.path)],
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )
        for _ in range(3)
    ]
    with ThreadPoolExecutor(4) as pool:
        mine = {e.pid for e in pool.map(lambda _: launcher(state).ensure(), range(4))}
    theirs = {int(child.communicate(timeout=60)[0]) for child in children}
    assert mine == theirs == set(started(state))
    assert len(mine) == 1


def test_a_dead_engine_is_replaced(state: StateDir) -> None:
    first = launcher(state).ensure()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not launch.is_alive(first.pid or 0))
    second = launcher(state).ensure()
    assert second.pid != first.pid
    assert started(state) == [first.pid, second.pid]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "token": "t"}', '{"pid": -1, "token": ""}'],
)
def test_a_senseless_engine_json_is_replaced(state: StateDir, content: str) -> None:
    state.prepare()
    (state.path / "engine.json").write_text(content)
    assert state.read() is None
    assert launcher(state).ensure().pid == started(state)[0]


def test_a_foreign_process_with_the_old_number_is_left_alone(state: StateDir) -> None:
    state.prepare()
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        info = {"pid": stranger.pid, "token": "t"}
        (state.path / "engine.json").write_text(json.dumps(info))
        assert launcher(state).ensure().pid != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: not launch.is_alive(child.pid))
    child.wait()
    assert launch.is_alive(1)
    assert not launch.is_alive(2**40)


def test_a_hung_engine_is_ended_and_replaced(state: StateDir) -> None:
    """SIGTERM does nothing to it, as to one that ignores it."""
    deaf = stopped_engine(state)
    endpoint = launcher(state, hang_timeout=0.1, probe_timeout=0.1).ensure()
    assert endpoint.pid != deaf
    assert not launch.is_alive(deaf)


def test_an_engine_with_turns_is_not_ended(state: StateDir) -> None:
    """The caller's time is kept, and the error names the process and the way out."""
    deaf = stopped_engine(state, "busy")
    began = time.monotonic()
    with pytest.raises(EngineNotResponding, match=f"process {deaf}.*kill -9 {deaf}") as caught:
        launcher(state, hang_timeout=0.1, probe_timeout=0.1).ensure(0.5)
    assert 0.5 <= time.monotonic() - began < 10
    assert caught.value.pid == pickle.loads(pickle.dumps(caught.value)).pid == deaf
    assert launch.is_alive(deaf)


@pytest.mark.parametrize("content", [None, "", "starting\n", "x"])
def test_an_engine_of_which_nothing_is_known_is_not_ended(
    state: StateDir, content: str | None
) -> None:
    deaf = stopped_engine(state)
    work = state.path / "engine.work"
    work.unlink() if content is None else work.write_text(content)
    with pytest.raises(EngineNotResponding):
        launcher(state, hang_timeout=0.05, probe_timeout=0.05).ensure(0.4)
    assert launch.is_alive(deaf)


def test_a_patient_caller_is_told_and_waits(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_TELL_AFTER", 0.2)
    deaf = stopped_engine(state, "busy")
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        os.kill(deaf, signal.SIGCONT)

    impatient = launcher(state, hang_timeout=0.05, probe_timeout=0.05)
    assert impatient.ensure(0.01, on_silent=tell).pid == deaf
    assert len(told) == 1 and f"process {deaf}" in told[0]


def test_a_patient_caller_can_leave(state: StateDir) -> None:
    stopped_engine(state, "busy")
    leave = threading.Event()
    timer = threading.Timer(0.2, leave.set)
    timer.start()
    with pytest.raises(ConnectionFailed, match="cancelled"):
        launcher(state, probe_timeout=0.05).ensure(on_silent=print, cancelled=leave)
    timer.join()


def test_a_start_lock_that_another_holds(state: StateDir) -> None:
    state.prepare()
    with state.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EngineStartError, match="Another process has been starting"):
            launcher(state).ensure(0.2)
    assert launcher(state).ensure().pid


def test_a_process_of_the_same_number_is_not_the_engine(state: StateDir) -> None:
    """With its command line, too: it was born at another time."""
    first = launcher(state).ensure()
    info = json.loads((state.path / "engine.json").read_text())
    (state.path / "engine.json").write_text(json.dumps({**info, "birth": 1}))
    os.kill(first.pid or 0, signal.SIGSTOP)
    assert launcher(state, hang_timeout=60).ensure().pid != first.pid


def test_an_engine_in_another_directory(state: StateDir, short_dir: Path) -> None:
    """The one that has the data is found from wherever a client looks."""
    first = launcher(state).ensure()
    other = StateDir(short_dir / "other")
    other.prepare()
    info = json.loads((state.path / "engine.json").read_text())
    leading = {**info, "socket": str(state.socket)}
    (other.path / "engine.json").write_text(
        json.dumps({**leading, "birth": launch._birth(first.pid or 0)})
    )
    assert launcher(other).ensure() == first
    os.kill(first.pid or 0, signal.SIGKILL)
    wait_until(lambda: not launch.is_alive(first.pid or 0))
    second = launcher(other).ensure()
    assert second.uds == str(other.socket)
    os.kill(second.pid or 0, signal.SIGKILL)


def test_a_state_directory_where_nothing_can_be_made(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    state.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(EngineStartError, match="No space left on device"):
            launcher(state).ensure()


def test_a_busy_engine_gets_time(state: StateDir) -> None:
    first = launcher(state).ensure()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    timer = threading.Timer(0.5, os.kill, (first.pid, signal.SIGCONT))
    timer.start()
    assert launcher(state, probe_timeout=0.1, hang_timeout=10).ensure() == first
    timer.join()


def test_an_engine_that_fails_says_why(state: StateDir) -> None:
    with pytest.raises(EngineStartError) as caught:
        launcher(state, "fail").ensure()
    message = str(caught.value)
    assert "ended while it started" in message
    assert "something is wrong here" in message
    assert str(state.log) in message
    with pytest.raises(EngineStartError) as caught:
        launcher(state, "fail").ensure()
    assert str(caught.value).count("something is wrong here") == 1
    assert launcher(state).ensure().pid


def test_an_engine_that_is_never_ready(state: StateDir) -> None:
    with pytest.raises(EngineStartError, match="ended while it started"):
        launcher(state, "mute").ensure()


def test_an_engine_that_leaves_no_address(state: StateDir) -> None:
    code = "import os, sys; os.write(int(sys.argv[-1]), b'x')"
    with pytest.raises(EngineStartError, match="started but does not answer"):
        launcher(state, command=(sys.executable, "-c", code)).ensure()


def test_an_engine_that_is_not_well(state: StateDir) -> None:
    with pytest.raises(EngineStartError, match="does not answer"):
        launcher(state, "sick").ensure()


def test_a_system_without_file_locks(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(EngineStartError, match="needs a POSIX system"):
        launcher(state).ensure()


def test_an_engine_that_cannot_be_ended(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = stopped_engine(state)
    # The one signal that it gets does nothing to it.
    monkeypatch.setattr(launch, "_END_PATIENCE", ((signal.SIGTERM, 0.1),))
    with pytest.raises(EngineNotResponding, match=f"process {deaf}\\) does not answer and cannot"):
        launcher(state, hang_timeout=0.1, probe_timeout=0.1).ensure()


def test_an_engine_that_takes_too_long(state: StateDir) -> None:
    sleeper = (sys.executable, "-c", "import signal; signal.pause()")
    with pytest.raises(EngineStartError, match=r"not ready after 0\.2 s.*\(empty\)"):
        launcher(state, command=sleeper, start_timeout=0.2).ensure()


def test_an_interpreter_that_is_not_there(state: StateDir) -> None:
    with pytest.raises(EngineStartError, match="could not be started"):
        launcher(state, command=("/nonexistent",)).ensure()


@pytest.mark.parametrize(
    ("mode", "advice"), [("new", "upgrade agent-magics"), ("old", "older engine")]
)
def test_another_generation(state: StateDir, mode: str, advice: str) -> None:
    with pytest.raises(ProtocolMismatch, match=advice):
        launcher(state, mode).ensure()


def test_the_log_is_kept_small(state: StateDir) -> None:
    state.prepare()
    state.log.write_bytes(b"x" * (launch._LOG_LIMIT + 1))
    launcher(state).ensure()
    assert state.log.stat().st_size < 1000
    assert state.log.with_suffix(".log.1").exists()


def test_the_module_runs_from_the_source_tree(state: StateDir) -> None:
    """Without PYTHONPATH, from another directory: the code that started it is the code it runs."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert launcher(state, environ=environ).ensure().pid


# -- the directory --------------------------------------------------------------------------------


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert StateDir.default(runtime).path == tmp_path / "agent-magics"
    chosen = {"AGENT_MAGICS_STATE_DIR": "/x/y", **runtime}
    assert StateDir.default(chosen).path == Path("/x/y")
    fallback = Path(f"/tmp/agent-magics-{os.getuid()}")
    assert StateDir.default({}).path == fallback
    assert StateDir.default({"XDG_RUNTIME_DIR": "/nonexistent"}).path == fallback
    monkeypatch.setenv("AGENT_MAGICS_STATE_DIR", "/x/y")
    assert StateDir.default().path == Path("/x/y")


def test_an_open_directory_is_refused(state: StateDir) -> None:
    state.path.mkdir(mode=0o755)
    with pytest.raises(EngineStartError, match="chmod 700"):
        launcher(state).ensure()


def test_a_link_is_refused(state: StateDir, tmp_path: Path) -> None:
    state.path.symlink_to(tmp_path)
    with pytest.raises(EngineStartError, match="not a directory"):
        launcher(state).ensure()


def test_a_file_is_refused(state: StateDir) -> None:
    state.path.write_text("")
    with pytest.raises(EngineStartError, match="cannot be used"):
        launcher(state).ensure()


def test_somebody_elses_directory_is_refused(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.prepare()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(EngineStartError, match="belongs to another user"):
        launcher(state).ensure()


def test_a_long_path_is_refused() -> None:
    with pytest.raises(EngineStartError, match="too long for a Unix socket"):
        ensure_engine("/tmp/" + "x" * 200)
