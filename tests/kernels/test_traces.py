"""What a turn leaves behind in its kernel and its cell: the record, and nothing that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_magics.notebook._replay._recording import Entry, Recording, write_recording
from agent_magics.widgets import MIME
from agent_magics.wire import SendResult, SessionInfo, TextDelta, TurnEnded
from tests.support.kernel import FrontEnd
from tests.support.turn_widget import TurnCard

pytestmark = pytest.mark.kernel

LOAD = """
from tests.support import fake_session
def script(turn):
    getattr(fake_session, turn.prompt.split()[0])(turn)
fake = fake_session.install(get_ipython(), script)
%load_ext agent_magics
"""
WIDGET = "application/vnd.jupyter.widget-view+json"
ENGINE = """
class Engine(type(get_ipython().kernel)):
    __module__ = "ipyparallel.engine.kernel"
get_ipython().kernel.__class__ = Engine
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    ended = Entry(0.0, TurnEnded("completed", SendResult("msg_1", "all of it")))
    path = tmp_path / "turn.jsonl"
    words = (Entry(0.0, TextDelta("part one", "one")), Entry(0.0, TextDelta("part two", "two")))
    session = SessionInfo("ses_1", "T")
    write_recording(path, Recording("Say it", session, (*words, ended)))
    return path


def displayed(kernel: FrontEnd, cell: str) -> list[dict[str, Any]]:
    """Every bundle that the cell has sent, in order, changes of earlier ones among them."""
    kinds = ("display_data", "update_display_data", "execute_result")
    return [message["content"]["data"] for message in kernel.of(cell, *kinds)]


def test_no_comm_outlives_its_turn(kernel: FrontEnd, recording: Path) -> None:
    kernel.run(LOAD)
    before = set(kernel.comms)
    opened: dict[str, int] = {}

    def ended(kind: str, cell: str) -> None:
        kernel.until(lambda: kernel.is_done(cell), what=kind)
        kernel.until(lambda: set(kernel.comms) <= before, what=f"{kind}: every comm is closed")
        opened[kind] = len(kernel.of(cell, "comm_open"))

    def card() -> TurnCard:
        made = TurnCard(kernel, known=frozenset(before))
        made.shows()
        return made

    for kind in ("hello", "flood", "broken"):
        ended(kind, kernel.execute(f"%%agent\n{kind}"))

    cell = kernel.execute("%%agent\nfull")
    shown = card()
    shown.reply(shown.asked(), "once")
    ended("full", cell)

    cell = kernel.execute("%%agent\nendless")
    shown = card()
    kernel.until(shown.messages, what="streamed text")
    kernel.interrupt()
    ended("stopped", cell)

    cell = kernel.execute("%%agent\nfull")
    card().asked()
    kernel.interrupt()
    ended("stopped while it asks", cell)

    cell = kernel.execute("%%agent -b\nfull")
    shown = card()
    shown.reply(shown.asked(), "reject")
    ended("in the background", cell)

    cell = kernel.execute(f"%agent --replay {recording} --speed 0 --step")
    kernel.click("Next step")
    kernel.click("Play the rest")
    ended("replayed", cell)

    kernel.run("for session in fake.sessions.values():\n    session.start_error = OSError('gone')")
    ended("not started", kernel.execute("%%agent\nhello"))
    ended("shell", kernel.execute("%agent_shell ls"))

    # one for each turn; for steps a box and two buttons, each with a layout, and two styles
    assert opened.pop("replayed") == 1 + 3 + 3 + 2
    assert opened.pop("shell") == 0
    assert set(opened.values()) == {1}
    kept = "from ipywidgets.widgets.widget import _instances\nprint(len(_instances))"
    assert kernel.run(kept) == "0\n"


def test_capture_gets_the_record_and_nothing_else(kernel: FrontEnd, recording: Path) -> None:
    kernel.run(LOAD)
    kernel.inputs.append("y")
    cell = kernel.execute("%%capture kept\n%agent full")
    kernel.until(lambda: kernel.is_done(cell))
    assert kernel.of(cell, "comm_open", "display_data", "update_display_data") == []
    assert len(kernel.of(cell, "input_request")) == 1  # there are no buttons
    shown = kernel.execute("kept.show()")
    kernel.until(lambda: kernel.is_done(shown))
    (record,) = displayed(kernel, shown)
    assert set(record) == {"text/html", "text/plain", MIME}
    assert "The answer was once." in record["text/plain"]
    assert kernel.of(shown, "display_data")  # not the change of an output that is not there

    replay = f"%%capture kept\n%agent --replay {recording} --speed 0 --step"
    kernel.inputs += ["", "r"]
    kernel.run(replay)
    assert kernel.run("print([sorted(each.data) for each in kept.outputs])") == (
        f"{[sorted(['text/html', 'text/plain', MIME])]}\n"
    )

    kernel.run("%%capture kept\n%agent -b hello")
    kernel.run("%agent_wait")
    assert kernel.run("print([each.data['text/plain'] for each in kept.outputs])") == (
        "['You said: hello']\n"
    )


def test_a_turn_that_ends_while_another_cell_is_captured(kernel: FrontEnd) -> None:
    kernel.run(LOAD)
    cell = kernel.execute("%%agent -b\nfull")
    card = TurnCard(kernel)
    card.shows()
    request = card.asked()
    waiting = kernel.execute("%%capture kept\n%agent_wait")
    kernel.until(lambda: kernel.of(waiting, "execute_input"))
    card.reply(request, "once")
    kernel.until(lambda: kernel.is_done(waiting))
    assert kernel.run("print([each.data for each in kept.outputs if each.update])") == "[]\n"
    kernel.until(lambda: MIME in kernel.outputs(cell)[0], what="the record in its own cell")
    assert WIDGET not in kernel.outputs(cell)[0]


def test_an_engine_of_ipyparallel_sends_the_record_once(kernel: FrontEnd) -> None:
    """Its client takes what is displayed, and no change of that: measured with ipyparallel 9.2."""
    kernel.run(LOAD + ENGINE)
    cell = kernel.execute("%%agent\nfull", allow_stdin=False)
    kernel.until(lambda: kernel.is_done(cell))
    (record,) = displayed(kernel, cell)
    assert set(record) == {"text/html", "text/plain", MIME}
    assert "The answer was reject." in record["text/plain"]
    assert kernel.of(cell, "comm_open") == []
