"""Control groups around a container: by systemd, in a delegated part, or why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.sandbox import Limits, open_sandbox
from agent_magics.sandbox import _walls as walls
from agent_magics.sandbox._owner import engine_mark
from agent_magics.sandbox._walls import Machine, Wall, raise_wall

LIMITS = Limits(memory=100 << 20, processes=30)
GROUP = "user.slice/app.slice/jupyter.scope"


@pytest.fixture
def process() -> Iterator[int]:
    """A process that has started another."""
    program = "import subprocess as s; s.Popen(['sleep', '60']); print('up', flush=True); input()"
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None and running.stdin is not None
    assert running.stdout.readline() == "up\n"
    child = int(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text())
    yield running.pid
    running.stdin.close()
    running.kill()
    running.wait()
    running.stdout.close()
    os.kill(child, 9)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Files as in /sys/fs/cgroup; /proc is the real one but for what `self` says."""
    groups = tmp_path / "cgroup"
    for folder in (groups, *(groups / part for part in parts(GROUP))):
        folder.mkdir()
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text("memory pids\n")
        (folder / "cgroup.procs").write_text("")
    processes = tmp_path / "proc"
    (processes / "self").mkdir(parents=True)
    (processes / "self/cgroup").write_text(f"1:name=systemd:/\n0::/{GROUP}\n")
    return Machine(groups=groups, processes=processes, run=tmp_path / "run", busctl=())


def parts(group: str) -> list[Path]:
    return [*reversed(Path(group).parents[:-1]), Path(group)]


def with_process(machine: Machine, pid: int, group: str = GROUP) -> list[int]:
    """The process and its child, as `machine` shows them."""
    below = f"{pid}/task/{pid}/children"
    child = Path("/proc", below).read_text()
    for one, children in ((str(pid), child), (child.strip(), "")):
        folder = machine.processes / one
        (folder / "task" / one).mkdir(parents=True)
        (folder / "task" / one / "children").write_text(children)
        (folder / "cgroup").write_text(f"0::/{group}\n")
    return [pid, int(child)]


def test_in_a_delegated_group(machine: Machine, process: int) -> None:
    with_process(machine, process)
    wall = raise_wall(process, LIMITS, machine)
    assert wall.kind == "cgroup" and "walled by the kernel, by a control group" in str(wall)
    assert wall.folder is not None and wall.folder.parent == machine.groups / GROUP
    assert (wall.folder / "memory.max").read_text() == str(LIMITS.memory + walls.SLACK)  # type: ignore[operator]
    assert (wall.folder / "memory.swap.max").read_text() == "0"
    assert (wall.folder / "pids.max").read_text() == str(30 + walls.OWN_PROCESSES)
    assert (wall.folder / "cgroup.procs").read_text() != ""


def test_a_group_without_both_controllers_is_passed_over(machine: Machine, process: int) -> None:
    with_process(machine, process)
    (machine.groups / GROUP / "cgroup.controllers").write_text("pids\n")
    wall = raise_wall(process, LIMITS, machine)
    assert wall.folder is not None and wall.folder.parent == (machine.groups / GROUP).parent


def test_controllers_are_switched_on(machine: Machine, process: int) -> None:
    with_process(machine, process)
    control = machine.groups / GROUP / "cgroup.subtree_control"
    control.write_text("")
    raise_wall(process, LIMITS, machine)
    assert control.read_text() == "+memory +pids"


def test_a_group_that_fails_is_removed(
    machine: Machine, process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_process(machine, process)
    (machine.processes / str(process) / "task" / str(process) / "children").unlink()
    removed: list[Path] = []
    monkeypatch.setattr(walls, "_remove", removed.append)
    wall = raise_wall(process, LIMITS, machine)
    assert wall.kind == "" and "No such file" in wall.reason
    assert len(removed) == 1 and removed[0].name.startswith(walls.PREFIX)


def test_groups_of_dead_engines_are_removed(machine: Machine, process: int) -> None:
    with_process(machine, process)
    parent = machine.groups / GROUP
    mine = parent / f"{walls.PREFIX}{engine_mark()}-abcdef"
    dead = parent / f"{walls.PREFIX}999999999.1.no-abcdef"
    other = parent / "of-somebody-else"
    for folder in (mine, dead, other):
        folder.mkdir()
    assert raise_wall(process, LIMITS, machine).kind == "cgroup"
    assert mine.exists() and other.exists()
    assert not dead.exists() or (dead / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: shutil.rmtree(m.groups), "there are no control groups of version 2"),
        (
            lambda m: (m.processes / "self/cgroup").write_text("1:name=systemd:/\n"),
            "this process is in no control group of version 2",
        ),
        (
            lambda m: [p.unlink() for p in m.groups.rglob("cgroup.procs")],
            "no control group with memory and pids is delegated to this user",
        ),
        (
            lambda m: [p.write_text("cpu") for p in m.groups.rglob("cgroup.controllers")],
            "no control group with memory and pids is delegated to this user",
        ),
    ],
)
def test_why_there_is_none(machine: Machine, process: int, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    with_process(machine, process)
    spoil(machine)
    wall = raise_wall(process, LIMITS, machine)
    assert wall == Wall("", f"there is no systemd; {reason}")
    assert "watched, not walled by the kernel: there is no systemd" in str(wall)


def test_without_limits_there_is_none(machine: Machine) -> None:
    assert raise_wall(1, Limits(memory=None, processes=None), machine).kind == ""


BUSCTL = """#!{python}
import json, os, pathlib, sys
pathlib.Path({log!r}).write_text(json.dumps(sys.argv[1:]))
if {error!r}:
    sys.exit({error!r})
name = next(a for a in sys.argv if a.endswith(".scope"))
pathlib.Path({cgroup!r}).write_text("0::/user.slice/" + name + "\\n")
folder = pathlib.Path({groups!r}, "user.slice", name)
folder.mkdir()
(folder / "memory.max").write_text("1")
"""


@pytest.mark.parametrize("error", ["", "Call failed: Access denied"])
def test_in_a_scope_of_systemd(machine: Machine, process: int, tmp_path: Path, error: str) -> None:
    pids = with_process(machine, process)
    log, program = tmp_path / "log", tmp_path / "busctl"
    program.write_text(
        BUSCTL.format(
            python=sys.executable,
            log=str(log),
            error=error,
            cgroup=str(machine.processes / str(process) / "cgroup"),
            groups=str(machine.groups),
        )
    )
    program.chmod(0o755)
    (machine.run / "systemd/system").mkdir(parents=True)
    (machine.run / f"user/{os.geteuid()}").mkdir(parents=True)
    (machine.run / f"user/{os.geteuid()}/bus").touch()
    found = Machine(machine.groups, machine.processes, machine.run, (str(program),))
    wall = raise_wall(process, LIMITS, found)
    call = json.loads(log.read_text())
    assert call[0] == ("--system" if os.geteuid() == 0 else "--user")
    start = call.index("PIDs")
    assert call[start : start + 5] == ["PIDs", "au", "2", *map(str, pids)]
    memory = str(LIMITS.memory + walls.SLACK)  # type: ignore[operator]
    for name, kind, value in (("MemoryMax", "t", memory), ("TasksMax", "t", "94")):
        assert call[call.index(name) : call.index(name) + 3] == [name, kind, value]
    # what systemd refuses is done without it
    assert wall.kind == ("cgroup" if error else "systemd")


@pytest.mark.container
async def test_around_a_real_container(tmp_path: Path, needs_bubblewrap: None) -> None:
    box = open_sandbox(tmp_path / "session", limits=LIMITS)
    await box.start()
    try:
        wall = box.wall
        assert wall is not None
        if not wall.kind:
            pytest.skip(f"NO KERNEL WALLS HERE: {wall.reason}")
        result = await box.run("for i in $(seq 300); do sleep 5 & done; wait", timeout=30)
        assert result.exit_code != 0 or b"Resource" in result.stderr
    finally:
        await box.destroy()
    assert wall.folder is None or not wall.folder.exists()
