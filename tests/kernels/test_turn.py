"""Turns in real kernels, with a fake session behind them; jupyter_client plays the front end."""

from __future__ import annotations

import re

import pytest

from agent_magics.widgets import MIME
from tests.support.kernel import FrontEnd
from tests.support.turn_widget import TurnCard

pytestmark = pytest.mark.kernel


def load(kernel: FrontEnd, script: str) -> None:
    printed = kernel.run(
        "from tests.support import fake_session\n"
        f"fake = fake_session.install(get_ipython(), fake_session.{script})\n"
        "%load_ext agent_magics"
    )
    assert printed == ""


def test_a_click_while_busy_and_the_static_record(kernel: FrontEnd) -> None:
    load(kernel, "full")
    cell = kernel.execute("%%agent\nlook around")
    after = kernel.execute("print(_agent.text.count('always'), list(fake.sessions))")
    card = TurnCard(kernel)
    (live,) = kernel.until(lambda: kernel.outputs(cell), what="the live view")
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == card.comm_id
    card.shows()
    request = card.asked()
    assert kernel.reply(cell) is None
    click = card.reply(request, "always")
    kernel.until(lambda: kernel.is_done(after))
    assert kernel.is_idle(click)
    assert kernel.text(after) == "1 ['ses_fake1']\n"
    (static,) = kernel.outputs(cell)
    assert set(static) == {"text/html", "text/plain", MIME}
    assert "The answer was always." in static["text/plain"]
    assert "data:image/png;base64," in static["text/html"]
    assert card.comm_id not in kernel.comms


def test_without_buttons_the_keyboard_is_asked(kernel: FrontEnd) -> None:
    load(kernel, "full")
    kernel.inputs.append("y")
    cell = kernel.execute("%agent look around?")
    kernel.until(lambda: kernel.is_done(cell), 30)
    (request,) = kernel.of(cell, "input_request")
    assert "rm -rf build\ny = allow once, a = always allow rm *" in request["content"]["prompt"]
    (static,) = kernel.outputs(cell)
    assert "The answer was once." in static["text/plain"]


def test_a_button_works_while_the_keyboard_is_asked(kernel: FrontEnd) -> None:
    load(kernel, "full")
    cell = kernel.execute("%agent look around")
    card = TurnCard(kernel)
    kernel.until(lambda: kernel.of(cell, "input_request"), 20)
    card.reply(card.asked(), "always")
    kernel.until(lambda: kernel.is_done(cell))
    kernel.client.input("n")  # too late, and for nobody
    assert "The answer was always." in kernel.run("print(_agent.text)")
    kernel.inputs.append("typed")
    assert kernel.run("print(input())").endswith("typed\n")


def test_stop_in_mid_stream(kernel: FrontEnd) -> None:
    load(kernel, "endless")
    cell = kernel.execute("%%agent\ntalk")
    card = TurnCard(kernel)
    card.shows()
    kernel.until(lambda: len(card.messages()) >= 3, what="streamed text")
    kernel.interrupt()
    kernel.until(lambda: kernel.is_done(cell))
    (error,) = kernel.of(cell, "error")
    assert error["content"]["ename"] == "TurnInterrupted"
    assert error["content"]["traceback"] == ["agent: the turn was stopped"]
    (static,) = kernel.outputs(cell)
    assert static["text/plain"].startswith("word word")
    assert kernel.run("print([c for s in fake.sessions.values() for c in s.calls])") == (
        "[('abort', 'msg_0001')]\n"
    )


def test_stop_while_a_permission_waits(kernel: FrontEnd) -> None:
    load(kernel, "full")
    cell = kernel.execute("%%agent\ntalk")
    card = TurnCard(kernel)
    card.shows()
    card.asked()
    kernel.interrupt()
    kernel.until(lambda: kernel.is_done(cell))
    assert kernel.text(cell) == "agent: the turn was stopped"
    assert kernel.run("print('next')") == "next\n"


def test_stop_at_the_keyboard(kernel: FrontEnd) -> None:
    load(kernel, "full")
    cell = kernel.execute("%agent go")
    kernel.until(lambda: kernel.of(cell, "input_request"), 20)
    kernel.interrupt()
    kernel.until(lambda: kernel.is_done(cell))
    assert kernel.text(cell) == "agent: the turn was stopped"


def test_run_all_keeps_the_order(kernel: FrontEnd) -> None:
    load(kernel, "hello")
    cells = [kernel.execute(f"%%agent --out r{n}\nprompt {n}") for n in range(3)]
    last = kernel.execute("print([r.text for r in (r0, r1, r2)], len(fake.sessions))")
    kernel.until(lambda: kernel.is_done(last))
    assert kernel.text(last) == (
        "['You said: prompt 0', 'You said: prompt 1', 'You said: prompt 2'] 1\n"
    )
    ends = [kernel.reply(cell)["at"] for cell in cells]
    assert ends == sorted(ends)


def test_an_error_stops_run_all(kernel: FrontEnd) -> None:
    load(kernel, "broken")
    cell = kernel.execute("%%agent\none")
    after = kernel.execute("print('never')")
    kernel.until(lambda: kernel.is_done(cell) and kernel.reply(after))
    assert kernel.text(cell) == "agent: APIError: The model's server answered 500."
    assert kernel.reply(after)["content"]["status"] == "aborted"
    assert kernel.run("print(_agent.error.name)") == "APIError\n"


def test_a_flood_is_drawn_in_few_messages(kernel: FrontEnd) -> None:
    load(kernel, "flood")
    cell = kernel.execute("%%agent\ngo")
    card = TurnCard(kernel)
    card.shows()
    kernel.until(lambda: kernel.is_done(cell), 30)
    (start,) = kernel.of(cell, "execute_input")
    seconds = kernel.reply(cell)["at"] - start["at"]
    assert len(card.messages()) <= 35 * seconds + 10
    (static,) = kernel.outputs(cell)
    assert len(re.findall(r"\d+", static["text/plain"])) >= 20_000


def test_headless_in_a_kernel_never_asks(kernel: FrontEnd) -> None:
    load(kernel, "full")
    cell = kernel.execute("%agent go", allow_stdin=False)
    kernel.until(lambda: kernel.is_done(cell), 20)
    (static,) = kernel.outputs(cell)
    assert "The answer was reject." in static["text/plain"]
    assert kernel.of(cell, "input_request", "comm_open") == []


def test_a_turn_in_a_thread_of_the_users(kernel: FrontEnd) -> None:
    """The cell ends at once; the buttons work because no cell is running."""
    load(kernel, "full")
    kernel.run(
        "import agent_magics, threading\n"
        "results = []\n"
        "thread = threading.Thread(target=lambda: results.append(agent_magics.ask('hi')))\n"
        "thread.start()"
    )
    card = TurnCard(kernel)
    card.shows()
    card.reply(card.asked(), "once")
    kernel.run("thread.join(60)")
    assert "The answer was once." in kernel.run("print(results[0].text)")
