"""
An engine whose disk is really full, and what still works then.

    unshare --user --map-root-user --mount python -m tests.support.full_disk

The disk is a small file system in memory, which the namespace of the command takes with it. Prints
how many checks held of how many; what did not hold stands on stderr.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent_magics.client import AgentError, Client, EngineLauncher, NoSpace, StateDir
from tests.support.waiting import wait_until

SIZE = 24  # megabytes
BIG = 6_000_000  # bytes


def main() -> int:
    home = Path(tempfile.mkdtemp(prefix="am-full-"))
    data = home / "data"
    data.mkdir(mode=0o700)
    (home / "none.toml").touch()
    options = f"size={SIZE}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(data)], check=True)
    environ = {
        **os.environ,
        "AGENT_MAGICS_DATA_DIR": str(data),
        "AGENT_MAGICS_CONFIG": str(home / "none.toml"),
    }
    launcher = EngineLauncher(StateDir(home / "state"), environ=environ)
    try:
        with Client(launcher=launcher, timeout=60) as client:
            results = _checks(client, launcher, data)
    finally:
        if engine := launcher.state.read():
            os.kill(engine.pid, signal.SIGKILL)
        subprocess.run(["umount", "--lazy", str(data)], check=False)
        shutil.rmtree(home, ignore_errors=True)
    for name, held in results.items():
        if not held:
            sys.stderr.write(f"does not hold: {name}\n")
    sys.stdout.write(f"{sum(results.values())} of {len(results)}\n")
    return int(not all(results.values()))


def _checks(client: Client, launcher: EngineLauncher, data: Path) -> dict[str, bool]:
    first, second, third = (client.create_session(str(n), sandbox="local") for n in range(3))
    second.put_file("/workspace/big.bin", b"z" * BIG)
    results = {"a turn with room": first.send("hello").error is None}
    pid = _pid(launcher)
    # the engine finds room in its own log first, so the first ones may be taken
    results["a turn on a full disk is told so"] = _at_last(data, lambda: first.send("again"))
    results["a session is refused"] = _at_last(data, lambda: client.create_session(sandbox="local"))
    results["a prompt is refused"] = _refused(lambda: first.send("more"))
    results["a file is refused"] = _refused(lambda: first.put_file("f", b"z" * BIG))
    results["sessions are listed"] = len(client.list_sessions()) >= 3
    results["messages are read"] = len(first.get_messages()) >= 2
    results["files are read"] = len(second.get_file_buffer("/workspace/big.bin")) == BIG
    second.end()
    third.end()
    ended = first.send("more").error
    if ended is not None:
        sys.stderr.write(f"a turn with room again: {ended}\n")
    results["ending sessions makes room"] = ended is None
    results["the engine is the same"] = _pid(launcher) == pid
    # With its reserve again, as after any time with room; then the disk is filled around it.
    os.truncate(data / "filler", (data / "filler").stat().st_size - BIG)
    wait_until((data / "reserve").exists)
    _fill(data)
    os.kill(pid, signal.SIGKILL)
    results["one starts on a full disk"] = len(client.list_sessions()) >= 1
    results["and reads"] = len(first.get_messages()) >= 4
    results["and deletes"] = first.end() is None
    (data / "filler").unlink()
    results["and works with room"] = client.create_session().send("hello").error is None
    return results


def _at_last(data: Path, call: Callable[[], object]) -> bool:
    """Whether it is refused as soon as the full disk has nothing left to give."""
    for _ in range(5):
        _fill(data)
        if _refused(call):
            return True
    return False


def _refused(call: Callable[[], object]) -> bool:
    try:
        done = call()
    except NoSpace as error:
        return "\n" not in str(error)
    except AgentError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return False
    error = getattr(done, "error", None)  # a turn that was accepted, and then ended
    return error is not None and error.name == "NoSpaceError"


def _pid(launcher: EngineLauncher) -> int:
    engine = launcher.state.read()
    return engine.pid if engine else 0


def _fill(data: Path) -> None:
    fd = os.open(data / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while os.write(fd, bytes(4096)):
            pass
    except OSError:
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
