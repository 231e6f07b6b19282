"""The notebook's own asyncio tasks while a cell waits for the agent, in real kernels."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kernels.test_turn import load
from tests.support.kernel import FrontEnd
from tests.support.turn_widget import TurnCard

pytestmark = pytest.mark.kernel

TICKER = """
import asyncio, threading
threads = set()
async def tick(path):
    while True:
        with open(path, "a") as file:
            file.write(".")
        threads.add(threading.current_thread().name)
        await asyncio.sleep(0.01)
ticker = asyncio.create_task(tick({path!r}))
"""
IS_PATCHED = (
    "import asyncio; loop = asyncio.get_running_loop()\n"
    "print(hasattr(asyncio, '_nest_patched'), hasattr(loop, '_nest_patched'), type(loop).__name__)"
)
PLAIN = f"False False {asyncio.SelectorEventLoop.__name__}\n"


class Ticker:
    """A task of the notebook's that writes a dot into a file again and again."""

    def __init__(self, front: FrontEnd, path: Path) -> None:
        self._front, self._path = front, path
        assert front.run(TICKER.format(path=str(path))) == ""

    def goes_on(self) -> None:
        seen = self._path.stat().st_size
        self._front.until(lambda: self._path.stat().st_size > seen + 20, what="the task goes on")


def test_a_task_goes_on_and_no_cell_is_entered(kernel: FrontEnd, tmp_path: Path) -> None:
    load(kernel, "full")
    ticker = Ticker(kernel, tmp_path / "ticks")
    assert kernel.run(IS_PATCHED) == PLAIN
    cell = kernel.execute("order = ['a']\n%agent look around\norder.append('b')")
    second = kernel.execute("order.append('c')")
    completion = kernel.send("complete_request", {"code": "pri", "cursor_pos": 3})
    third = kernel.execute("print(order, threads, _agent.text.count('always'))")
    card = TurnCard(kernel)
    card.shows()
    request = card.asked()
    ticker.goes_on()
    info = kernel.send("comm_info_request", {"target_name": "jupyter.widget"})
    kernel.until(lambda: kernel.reply(info), what="an answer while busy")
    assert kernel.reply(cell) is None and not kernel.of(second, "execute_input")
    click = card.reply(request, "always")
    kernel.until(lambda: kernel.is_done(third))
    assert kernel.text(third) == "['a', 'b', 'c'] {'MainThread'} 1\n"
    assert kernel.is_idle(click)
    kernel.until(lambda: kernel.reply(completion))
    assert kernel.reply(completion)["at"] >= kernel.reply(cell)["at"]
    ticker.goes_on()
    assert kernel.run(IS_PATCHED) == PLAIN


def test_stop_ends_the_turn_and_not_the_task(kernel: FrontEnd, tmp_path: Path) -> None:
    load(kernel, "endless")
    ticker = Ticker(kernel, tmp_path / "ticks")
    for _ in range(2):  # the loop is patched in the first, its class is there in the second
        cell = kernel.execute("%%agent\ntalk")
        card = TurnCard(kernel)
        card.shows()
        kernel.until(lambda c=card: len(c.messages()) >= 3, what="streamed text")
        ticker.goes_on()
        kernel.interrupt()
        kernel.until(lambda c=cell: kernel.is_done(c))
        assert kernel.text(cell) == "agent: the turn was stopped"
        ticker.goes_on()
    assert "default_int_handler" in kernel.run("import signal; print(signal.getsignal(2))")


def test_tasks_that_end_in_the_turn_and_new_ones(kernel: FrontEnd) -> None:
    """The pass of the loop that runs the cell counted on them: they were ready together."""
    load(kernel, "hello")
    kernel.run(
        "import asyncio\n"
        "over, ended = False, []\n"
        "async def spin(number):\n"
        "    while not over:\n"
        "        await asyncio.sleep(0)\n"
        "    ended.append(number)\n"
        "    if number == 7:\n"
        "        asyncio.create_task(spin(8))\n"
        "        raise OSError('of the task')\n"
        "spins = [asyncio.create_task(spin(number)) for number in range(8)]"
    )
    cell = kernel.execute(
        "over = True\n%agent hi\nprint(ended, _agent.text)\n"
        "late = asyncio.create_task(spin(9)); await late\n%agent there\nprint(_agent.text)"
    )
    kernel.until(lambda: kernel.is_done(cell))
    assert kernel.text(cell) == "[0, 1, 2, 3, 4, 5, 6, 7, 8] You said: hi\nYou said: there\n"
    assert (
        kernel.run("print(repr(spins[7].exception()), ended[-1])") == "OSError('of the task') 9\n"
    )


def test_asyncio_is_left_alone_without_tasks_or_when_told(kernel: FrontEnd, tmp_path: Path) -> None:
    load(kernel, "hello")
    assert kernel.run("%agent hi") == ""
    assert kernel.run(IS_PATCHED) == PLAIN
    kernel.run("%config AgentMagics.keep_tasks = False")
    ticker = Ticker(kernel, tmp_path / "ticks")
    assert kernel.run("%agent hi") == ""
    assert kernel.run(IS_PATCHED) == PLAIN
    ticker.goes_on()  # as before: between the cells
