"""Turns in the background, in real kernels: their buttons need no waiting cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_magics.widgets import MIME
from tests.kernels.test_turn import load
from tests.support.kernel import FrontEnd
from tests.support.turn_widget import TurnCard

pytestmark = pytest.mark.kernel

BUSY = """
import pathlib, time
print("busy", flush=True)
while not pathlib.Path({path!r}).exists():
    time.sleep(0.01)
"""


def test_a_click_while_an_ordinary_cell_runs(kernel: FrontEnd, tmp_path: Path) -> None:
    load(kernel, "full")
    reads_always = kernel.run("import ipykernel; print(ipykernel.version_info[0] >= 7)")
    cell = kernel.execute("%%agent -b\nlook around")
    kernel.until(lambda: kernel.is_done(cell))
    card = TurnCard(kernel)
    card.shows()
    request = card.asked()
    flag = tmp_path / "flag"
    busy = kernel.execute(BUSY.format(path=str(flag)))
    kernel.until(lambda: kernel.text(busy) == "busy\n")
    card.reply(request, "always")
    if reads_always == "True\n":
        kernel.until(lambda: MIME in kernel.outputs(cell)[0], what="the turn's end")
        assert kernel.reply(busy) is None
    flag.touch()
    kernel.until(lambda: kernel.is_done(busy))
    kernel.until(lambda: MIME in kernel.outputs(cell)[0], what="the turn's end")
    assert "The answer was always." in kernel.outputs(cell)[0]["text/plain"]
    told = kernel.text(busy) + kernel.run("%agent_help") + kernel.run("1 + 1")
    assert told.count("The agent's turn in In[3] has ended: completed (after ") == 1


def test_idle_beside_a_waiting_cell_and_in_a_queue(kernel: FrontEnd) -> None:
    load(kernel, "full")
    first = kernel.execute("%%agent -b\none")
    queued = kernel.execute("%%agent -b\ntwo")
    front = kernel.execute("%%agent --new\nthree")
    cards = []
    for _ in range(3):
        known = frozenset(card.comm_id for card in cards)
        cards.append(TurnCard(kernel, known=known))
        cards[-1].shows()
    one, two, three = cards
    request = one.asked()
    three.asked()
    notes = kernel.until(lambda: two.operations("note"), what="a line about the queue")
    assert "this turn is the next" in str(notes)
    assert kernel.is_done(first) and kernel.is_done(queued) and kernel.reply(front) is None
    one.reply(request, "once")  # beside a cell that waits
    kernel.until(lambda: MIME in kernel.outputs(first)[0])
    assert kernel.reply(front) is None
    three.reply(three.asked(), "once")
    kernel.until(lambda: kernel.is_done(front))
    two.reply(two.asked(), "once")  # nothing runs
    kernel.until(lambda: MIME in kernel.outputs(queued)[0])
    waited = kernel.execute("%agent_wait")
    kernel.until(lambda: kernel.is_done(waited))
    (shown,) = kernel.outputs(waited)
    assert shown["text/plain"].startswith("[<SendResult completed · ")  # both, told of or not
    assert "In[3] has ended: completed" in kernel.text(waited)
    assert "In[2] has ended" not in kernel.text(waited)
    assert kernel.run("print([r.text.count('The answer was once.') for r in _])") == "[1, 1]\n"


SOON = """
from agent_magics.notebook._turn import _permissions
_permissions._HANDSHAKE = _permissions._LEAST_WAIT = 0.0
"""


def test_a_console_without_buttons_is_told_and_no_cell_hangs(kernel: FrontEnd) -> None:
    load(kernel, "full")
    kernel.is_console = True
    assert kernel.run(SOON) == ""
    kernel.run("%%agent -b\nlook around")
    kernel.until(
        lambda: (
            "In[3] waits for an answer: %agent_permissions shows the question"
            in kernel.run("session = fake.sessions.get('ses_fake1')")
        ),
        what="a line about the question",
    )
    assert kernel.run("print('said once')") == "said once\n"
    for cell in ("%agent_wait", "%agent and then?"):
        assert "agent: PermissionPending: In[3] waits for an answer" in kernel.run(cell)
    kernel.run("session.reply_to_permission('per_1', 'once')")
    said = kernel.run("result = %agent_wait")
    assert "The answer was once." in said and "In[3] has ended: completed" in said
    assert kernel.run("print(result.text.count('once'))") == "1\n"


def test_the_wait_says_that_nobody_sees_the_question(kernel: FrontEnd) -> None:
    load(kernel, "full")
    assert kernel.run(SOON) == ""
    kernel.run("%%agent -b\nlook around")
    cell = kernel.execute("%agent_wait")
    kernel.until(lambda: "In[3] waits for an answer" in kernel.text(cell), what="a line")
    assert kernel.reply(cell) is None
    card = TurnCard(kernel)  # somebody scrolls up to it
    card.shows()
    card.reply(card.asked(), "once")
    kernel.until(lambda: kernel.is_done(cell))
    assert "In[3] has ended: completed" in kernel.text(cell)


def test_a_console_shows_a_turn_as_a_new_output(kernel: FrontEnd) -> None:
    load(kernel, "full")
    kernel.is_console = True
    cell = kernel.execute("%agent --permissions once look around")
    kernel.until(lambda: kernel.is_done(cell))
    first, record = (m["content"]["data"] for m in kernel.of(cell, "display_data"))
    assert first["text/plain"] == "The agent is at work."
    assert "The answer was once." in record["text/plain"]
    assert [output["text/plain"] == "" for output in kernel.outputs(cell)] == [True, False]
