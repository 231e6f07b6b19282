"""An engine that is killed under its notebook: one line in each cell, and no traceback anywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernels.test_engine import engine_pid, kill_engine
from tests.support.hub_front import HubFront
from tests.support.kernel import FrontEnd, kernel_pythons, started
from tests.support.scripted_llm import ThreadedLLM

pytestmark = [pytest.mark.kernel, pytest.mark.container]

_SCRIPT = {
    "scenarios": {
        "slow": {"turns": [{"do": [{"text": "word " * 2000, "delay": 0.1}]}]},
        "hello": {"turns": [{"do": [{"text": "Hello."}]}]},
    }
}
_CONFIG = '[providers.s]\nkind = "openai"\nbase_url = "{url}"\nmodels = ["slow", "hello"]\n'
_CLASSES = re.compile(r"[A-Z]\w+\(|httpx|Traceback|Protocol")


def lines(front: FrontEnd, cell: str) -> list[str]:
    """The error that the cell ends with."""
    return [line for m in front.of(cell, "error") for line in m["content"]["traceback"]]


def begin(front: FrontEnd, llm: ThreadedLLM, code: str) -> str:
    """A cell whose turn is in the middle of a reply."""
    known = len(llm.log)
    cell = front.execute(code)
    front.until(lambda: len(llm.log) > known, what=f"a request of {code!r}")
    return cell


def works(front: FrontEnd) -> None:
    assert front.run("%agent --model s/hello --new --out r hi") == ""
    assert front.run("print(r.text)") == "Hello.\n"


@pytest.mark.timeout(300)
def test_cells_and_threads_of_a_killed_engine(tmp_path: Path) -> None:
    python = next(iter(kernel_pythons().values()))
    config = tmp_path / "config.toml"
    environment = {
        "AGENT_MAGICS_CONFIG": str(config),
        "AGENT_MAGICS_MODEL": "s/slow",
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
    }
    with ThreadedLLM(_SCRIPT) as llm:
        good = _CONFIG.format(url=llm.base_url)
        config.write_text(good)
        with started(python, tmp_path, environment) as front:
            try:
                assert front.run("%load_ext agent_magics") == ""
                page = HubFront(front)
                page.attach()
                shell_and_background(front, llm)
                turn_and_background(front, llm, page, config)
                config.write_text(good)
                works(front)
                page.until(status="ready", problem="")
                front.run("import gc; gc.collect()")
            finally:
                kill_engine(front)
            streams = [m["content"] for m in front.messages if m["msg_type"] == "stream"]
    printed = "".join(s["text"] for s in streams if s["name"] == "stderr")
    for text in (printed, (tmp_path / "kernel.log").read_text()):
        assert not re.search(r"Traceback|Exception in|never retrieved|Error:", text), text


def shell_and_background(front: FrontEnd, llm: ThreadedLLM) -> None:
    """A command in front; the engine comes back."""
    background = begin(front, llm, "%%agent -b\ntalk")
    command = front.execute("%agent_shell echo go; sleep 87655")
    front.until(lambda: "go" in front.text(command), what="the command")
    before = engine_pid(front)
    kill_engine(front)
    front.until(lambda: front.is_done(command), what="the command's end")
    (line,) = lines(front, command)
    assert line.startswith("agent: ConnectionFailed: The engine was lost while the command ran")
    assert not _CLASSES.search(line.removeprefix("agent: ConnectionFailed: ")), line
    wait = front.execute("%agent_wait")
    front.until(lambda: front.is_done(wait), what="the wait's end")
    (line,) = lines(front, wait)
    assert "The engine stopped in the middle of this turn" in line
    assert "The engine stopped" in str(front.outputs(background)[0]["text/plain"])
    assert engine_pid(front) != before


def turn_and_background(front: FrontEnd, llm: ThreadedLLM, page: HubFront, config: Path) -> None:
    """A turn in front; no engine can be started again."""
    background = begin(front, llm, "%%agent -b --new\ntalk")
    turn = begin(front, llm, "%%agent --new --out r\ntalk")
    config.write_text("[providers\n")
    kill_engine(front)
    front.until(lambda: front.is_done(turn), what="the turn's end")
    (line,) = lines(front, turn)
    assert line.startswith("agent: EngineStartError: The engine can't start: ") and "\n" not in line
    assert str(config) in line
    front.until(
        lambda: "can't start" in str(front.outputs(background)[0].get("text/plain")),
        what="the background turn's end",
    )
    page.until(status="error", permissions=[])
    assert str(config) in page.state["problem"]
    for cell in ("%agent_wait", "%agent hi"):
        later = front.execute(cell)
        front.until(lambda later=later: front.is_done(later), what=cell)
        (line,) = lines(front, later)
        assert "can't start" in line, cell
