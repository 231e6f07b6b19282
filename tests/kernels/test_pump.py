"""The comm pump in real kernels; jupyter_client plays the front end."""

from __future__ import annotations

import contextlib
import re

import pytest

from tests.support.kernel import FrontEnd

pytestmark = pytest.mark.kernel

SETUP = """
import queue, signal, threading, time
import ipywidgets
from IPython import get_ipython
from IPython.display import display
from agent_magics.notebook import CommPump

def ask(tag, timeout=120):
    with CommPump(get_ipython().kernel) as pump:
        button = ipywidgets.Button(description=f"Allow #{tag}")
        button.on_click(lambda _: pump.post("clicked"))
        display(button)
        try:
            answer = pump.get(timeout)
        except queue.Empty:
            answer = "nothing"
        except KeyboardInterrupt:
            answer = "interrupted"
    print(answer, pump.live, threading.current_thread().name)
    return answer
"""


@pytest.fixture
def busy(kernel: FrontEnd) -> FrontEnd:
    assert kernel.run(SETUP) == ""
    return kernel


def waiting(front: FrontEnd, tag: int) -> None:
    front.until(lambda: front.comm_with(description=f"Allow #{tag}"), what=f"button {tag}")


def test_click_order_and_questions_while_busy(busy: FrontEnd) -> None:
    cell = busy.execute("order = ['a']; ask(1); order.append('b')")
    waiting(busy, 1)
    second = busy.execute("order.append('c')")
    completion = busy.send("complete_request", {"code": "pri", "cursor_pos": 3})
    third = busy.execute("order.append('d'); print(order)")
    kernel_info = busy.send("kernel_info_request", {})
    info = busy.send("comm_info_request", {"target_name": "jupyter.widget"})
    for question in (kernel_info, info):
        busy.until(lambda q=question: busy.reply(q), what="an answer while busy")
    assert busy.reply(info)["content"]["comms"]
    assert busy.reply(cell) is None
    click = busy.click("Allow #1")
    busy.until(lambda: busy.is_done(third))
    assert busy.text(cell) == "clicked True MainThread\n"
    assert busy.text(third) == "['a', 'b', 'c', 'd']\n"
    assert busy.is_idle(click)
    busy.until(lambda: busy.reply(completion))
    assert busy.reply(completion)["at"] >= busy.reply(cell)["at"]
    assert busy.reply(second)["content"]["status"] == "ok"


def test_flood_of_updates_and_a_binary_buffer(busy: FrontEnd) -> None:
    busy.run(
        "s = ipywidgets.IntSlider(description='S', max=10**6); seen = []\n"
        "s.observe(lambda change: seen.append(change['new']), 'value')\n"
        "raw = []\n"
        "r = ipywidgets.Button(description='RAW')\n"
        "r.on_msg(lambda w, content, buffers: raw.append(bytes(buffers[0]) if buffers else None))"
    )
    cell = busy.execute("_ = ask(2); print(len(seen), seen == sorted(seen), raw)")
    waiting(busy, 2)
    slider, raw = busy.comm_with(description="S"), busy.comm_with(description="RAW")
    assert slider and raw
    updates = [busy.update(slider, value=value) for value in range(1, 501)]
    busy.custom(raw, {"event": "x"}, buffers=[b"\x00\x01bin"])
    busy.click("Allow #2")
    busy.until(lambda: busy.is_done(cell))
    assert busy.text(cell).splitlines() == [
        "clicked True MainThread",
        "500 True [b'\\x00\\x01bin']",
    ]
    busy.until(lambda: all(busy.is_idle(update) for update in updates))


def test_failing_and_printing_callbacks_do_no_harm(busy: FrontEnd) -> None:
    busy.run(
        "e = ipywidgets.Button(description='EXC'); e.on_click(lambda b: 1 / 0)\n"
        "p = ipywidgets.Button(description='PRINT'); p.on_click(lambda b: print('from print'))"
    )
    cell = busy.execute("_ = ask(3)")
    waiting(busy, 3)
    busy.click("EXC")
    printing = busy.click("PRINT")
    busy.click("Allow #3")
    busy.until(lambda: busy.is_done(cell))
    assert "clicked True MainThread" in busy.text(cell)
    assert "from print" in busy.text(printing)


def test_stop_raises_in_the_wait_and_the_handler_is_restored(busy: FrontEnd) -> None:
    cell = busy.execute("_ = ask(4, 60)")
    waiting(busy, 4)
    busy.interrupt()
    busy.until(lambda: busy.is_done(cell))
    assert busy.text(cell) == "interrupted True MainThread\n"
    assert "default_int_handler" in busy.run("print(signal.getsignal(signal.SIGINT))")
    assert busy.run("print('alive')") == "alive\n"


def test_a_second_stop_interrupts_a_callback(busy: FrontEnd) -> None:
    busy.run(
        "def stuck(_):\n"
        "    print('stuck', flush=True)\n"
        "    time.sleep(60)\n"
        "w = ipywidgets.Button(description='STUCK'); w.on_click(stuck)"
    )
    cell = busy.execute("_ = ask(5, 60)")
    waiting(busy, 5)
    click = busy.click("STUCK")
    busy.until(lambda: "stuck" in busy.text(click))
    for _ in range(10):  # two signals at once may arrive as one
        busy.interrupt()
        with contextlib.suppress(AssertionError):
            busy.until(lambda: busy.is_done(cell), 4)
            break
    assert "interrupted" in busy.text(cell)
    busy.until(lambda: busy.is_idle(click))


def test_nested_pump_in_a_callback(busy: FrontEnd) -> None:
    busy.run("inner = ipywidgets.Button(description='OPEN'); inner.on_click(lambda b: ask(7))\n")
    cell = busy.execute("_ = ask(6)")
    waiting(busy, 6)
    opened = busy.click("OPEN")
    waiting(busy, 7)
    busy.click("Allow #7")
    busy.until(lambda: busy.is_idle(opened))
    assert "clicked" in busy.text(opened)
    assert busy.reply(cell) is None
    busy.click("Allow #6")
    busy.until(lambda: busy.is_done(cell))
    assert busy.text(cell) == "clicked True MainThread\n"


def test_nothing_taken_is_lost_when_the_wait_ends(busy: FrontEnd) -> None:
    busy.run(
        "n = 0\n"
        "def count(_):\n"
        "    global n\n"
        "    n += 1\n"
        "c = ipywidgets.Button(description='COUNT'); c.on_click(count)"
    )
    comm_id = busy.comm_with(description="COUNT")
    assert comm_id
    cell = busy.execute("for tag in (8, 9, 10):\n    ask(tag)")
    for tag in (8, 9, 10):
        waiting(busy, tag)
        for _ in range(20):
            busy.custom(comm_id, {"event": "click"})
        busy.click(f"Allow #{tag}")
        for _ in range(20):
            busy.custom(comm_id, {"event": "click"})
    busy.until(lambda: busy.is_done(cell))
    assert re.search(r"\b120\b", busy.run("print(n)"))


def test_messages_keep_their_usual_way_without_a_pump(busy: FrontEnd) -> None:
    busy.run("_ = CommPump(get_ipython().kernel).__enter__().__exit__(None, None, None)")
    busy.run("hits = []; b = ipywidgets.Button(description='B'); b.on_click(hits.append)")
    click = busy.click("B")
    busy.until(lambda: busy.is_idle(click))
    assert busy.run("print(len(hits))") == "1\n"


def test_not_live_without_the_private_interface(busy: FrontEnd) -> None:
    code = (
        "class Stream: _recv_callback = None\n"
        "class Kernel: shell_stream = Stream()\n"
        "import logging; logging.disable()\n"
        "with CommPump(Kernel()) as pump:\n"
        "    pump.post(1)\n"
        "    print(pump.live, pump.get(60))\n"
    )
    assert busy.run(code) == "False 1\n"
