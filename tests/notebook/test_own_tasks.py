"""Where the notebook's own tasks may go on, and what the loop is owed; no kernel is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from agent_magics.notebook._turn._own_tasks import OwnTasks
from tests.support.fake_session import FakeTurn, install
from tests.support.kernels import ROOT

KERNEL = SimpleNamespace(eventloop=None)

PROGRAM = """
import asyncio
from types import SimpleNamespace
from agent_magics.notebook._turn._own_tasks import OwnTasks

async def main():
    gate = asyncio.get_running_loop().create_future()
    async def other():
        await gate
    async def cell():
        tasks = OwnTasks.of_this_thread(SimpleNamespace(eventloop=None))
        while not all(task.done() for task in others):
            assert tasks.run(0, lambda: True)
        assert asyncio.current_task().get_name() == "cell"
    others = [asyncio.create_task(other()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cell(), name="cell")
    gate.set_result(None)  # the cell and the five are ready in one pass of the loop
    await waiting
    print("well")

asyncio.run(main())
"""


async def test_there_must_be_a_plain_loop() -> None:
    assert OwnTasks.of_this_thread(KERNEL) is not None
    assert await asyncio.to_thread(OwnTasks.of_this_thread, KERNEL) is None


async def test_not_beside_a_gui() -> None:
    assert OwnTasks.of_this_thread(SimpleNamespace(eventloop=lambda kernel: None)) is None


async def test_not_where_the_older_package_has_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
    assert OwnTasks.of_this_thread(KERNEL) is None
    monkeypatch.setattr(asyncio, "_nest_asyncio2", object(), raising=False)
    assert OwnTasks.of_this_thread(KERNEL) is not None


def test_not_in_a_loop_of_another_make() -> None:
    class Loop(asyncio.SelectorEventLoop):
        pass

    async def found() -> Any:
        return OwnTasks.of_this_thread(KERNEL)

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(found()) is None


def test_without_a_running_loop_there_is_nothing_to_wake() -> None:
    async def found() -> Any:
        return OwnTasks.of_this_thread(KERNEL)

    asyncio.run(found()).wake()


def test_the_pass_of_the_loop_that_runs_the_cell_finds_what_it_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


async def test_the_loop_keeps_nothing_that_is_posted_between_the_moments() -> None:
    tasks = OwnTasks.of_this_thread(KERNEL)
    assert tasks is not None
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    before = len(ready)
    for _ in range(100):
        tasks.wake()
    assert len(ready) == before


TICKS = """
import asyncio
async def tick():
    for number in range(100):
        await asyncio.sleep(0.001)
    over.set()
    await asyncio.sleep(600)
ticker = asyncio.create_task(tick())
await asyncio.sleep(0)
"""


def test_the_loop_of_a_shell_without_a_kernel_goes_on_in_a_turn(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from IPython.core import async_helpers

    over = shell.user_ns["over"] = threading.Event()

    def script(turn: FakeTurn) -> None:
        turn.say("yes" if over.wait(60) else "no")

    install(shell, script)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        monkeypatch.setattr(async_helpers, "_asyncio_event_loop", runner.get_loop())
        shell.extension_manager.load_extension("agent_magics")
        assert shell.run_cell(TICKS).success
        assert not over.is_set()
        assert shell.run_cell("%agent go on").success
        assert shell.user_ns["_agent"].text == "yes"
        shell.extension_manager.unload_extension("agent_magics")
