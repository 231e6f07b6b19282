"""The whole path in real kernels: magics, client, engine, container, and the scripted models."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel import FrontEnd, kernel_pythons, started
from tests.support.scripted_llm import ThreadedLLM
from tests.support.turn_widget import TurnCard

pytestmark = [pytest.mark.kernel, pytest.mark.container]

_KERNELS = kernel_pythons()
_SLOW = {"do": [{"text": "word " * 2000, "delay": 0.01}]}
_SCRIPT = {
    "scenarios": {
        "slow": {"turns": [_SLOW]},
        "hello": {"turns": [{"do": [{"text": "Hello from the model."}]}]},
    },
    "default": "hello",
    "api_keys": ["sk-test"],
}
_CONFIG = """
[providers.scripted]
kind = "openai"
base_url = "{url}"
api_key_env = "SCRIPTED_API_KEY"
models = ["slow", "hello"]
"""


@pytest.fixture(scope="module")
def llm() -> Iterator[ThreadedLLM]:
    with ThreadedLLM(_SCRIPT) as server:
        yield server


@pytest.fixture(params=list(_KERNELS.values()), ids=list(_KERNELS))
def front(request: pytest.FixtureRequest, tmp_path: Path, llm: ThreadedLLM) -> Iterator[FrontEnd]:
    config = tmp_path / "config.toml"
    config.write_text(_CONFIG.format(url=llm.base_url))
    environment = {
        "AGENT_MAGICS_CONFIG": str(config),
        "AGENT_MAGICS_MODEL": "demo/guide",
        "SCRIPTED_API_KEY": "sk-test",
        "OPENAI_BASE_URL": llm.base_url,
        "OPENAI_API_KEY": "sk-test",
        "ANTHROPIC_API_KEY": "",
    }
    with started(request.param, tmp_path, environment) as front_end:
        assert front_end.run("%load_ext agent_magics") == ""
        yield front_end
        kill_engine(front_end)


def engine_pid(front: FrontEnd) -> int:
    return int(json.loads((front.state_dir / "engine.json").read_text())["pid"])


def kill_engine(front: FrontEnd) -> None:
    try:
        os.kill(engine_pid(front), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass


def test_the_demo_model_asks_and_the_click_lets_it_go_on(front: FrontEnd) -> None:
    cell = front.execute("%%agent\nlook around")
    card = TurnCard(front)
    card.shows()
    card.reply(card.asked(), "once")
    front.until(lambda: front.is_done(cell), 60)
    assert front.text(cell) == ""
    (static,) = front.outputs(cell)
    assert "Python 3." in static["text/plain"]


def test_rejected_by_a_click(front: FrontEnd) -> None:
    cell = front.execute("%%agent --out r\nlook around")
    card = TurnCard(front)
    card.shows()
    card.reply(card.asked(), "reject")
    front.until(lambda: front.is_done(cell), 60)
    assert front.run("print(r.error, len(r.parts) > 2)") == "None True\n"


def test_shell_shares_the_container_with_the_agent(front: FrontEnd) -> None:
    assert front.run("%agent_shell echo one > /workspace/a.txt; exit 3") == "[exit code 3]\n"
    script = "%%agent_shell --out done\nfor i in 1 2; do\n  cat /workspace/a.txt\ndone\n"
    assert front.run(script) == "one\none\n"
    assert front.run("print(done.stdout, done.exit_code)") == "one\none\n 0\n"
    session = (
        "import agent_magics; print(agent_magics.current_session().get_file('/workspace/a.txt'))"
    )
    assert front.run(session) == "one\n\n"


def test_stop_ends_a_silent_command(front: FrontEnd) -> None:
    front.run("%agent_shell true")
    cell = front.execute("%agent_shell trap 'echo bye; exit 130' INT; echo go; sleep 87654; :")
    front.until(lambda: "go" in front.text(cell))
    front.interrupt()
    front.until(lambda: front.is_done(cell))
    assert front.text(cell) == "go\nbye\n[exit code 130]\nagent: the command was stopped"
    probe = (
        "r = __import__('agent_magics').current_session().shell('pgrep -f 8765[4]; true').stdout"
    )
    front.until(lambda: front.run(f"{probe}; print(repr(r))") == "''\n")


def test_a_megabyte_with_braces_arrives_unchanged(front: FrontEnd, llm: ThreadedLLM) -> None:
    line = 'd = {"a": {x}}; f"{{y}}" # <b>\\\\ $HOME %s \\n \u202e {% z %}\n'
    prompt = line * (1_000_000 // len(line))
    cell = front.execute("%%agent --model scripted/hello\n" + prompt)
    front.until(lambda: front.is_done(cell), 60)
    assert front.text(cell) == ""
    content = llm.log[-1]["body"]["messages"][-1]["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    assert text == prompt.removesuffix("\n")


def test_stop_in_mid_stream(front: FrontEnd) -> None:
    cell = front.execute("%%agent --model scripted/slow\ntalk")
    card = TurnCard(front)
    card.shows()
    front.until(lambda: len(card.messages()) >= 5, 60, what="streamed text")
    front.interrupt()
    front.until(lambda: front.is_done(cell))
    assert front.text(cell) == "agent: the turn was stopped"
    (static,) = front.outputs(cell)
    assert "word word" in static["text/plain"]
    assert front.run("%agent --model scripted/hello --out r hi") == ""
    assert front.run("print(r.text)") == "Hello from the model.\n"


def test_a_killed_engine_ends_the_cell_and_the_next_one_works(front: FrontEnd) -> None:
    cell = front.execute("%%agent --model scripted/slow --out r\ntalk")
    card = TurnCard(front)
    card.shows()
    front.until(lambda: len(card.messages()) >= 5, 60, what="streamed text")
    before = engine_pid(front)
    kill_engine(front)
    front.until(lambda: front.is_done(cell), 60)
    (error,) = front.of(cell, "error")
    assert error["content"]["ename"] == "TurnFailed"
    assert len(error["content"]["traceback"]) == 1
    (static,) = front.outputs(cell)
    assert "word word" in static["text/plain"]
    assert front.run("%agent --model scripted/hello --out r hi") == ""
    assert front.run("print(r.text)") == "Hello from the model.\n"
    assert engine_pid(front) != before


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%agent --model scripted/nope hi", "scripted/slow"),
        ("%agent --model nonsense hi", "provider/model-id"),
        ("%agent --session ses_0123456789ab00000000abcd hi", "ession"),
        ("%env OPENAI_API_KEY=wrong\n%agent --model openai/hello hi", "Incorrect API key"),
        ("%agent --model anthropic/claude-sonnet-4-5 hi", "ANTHROPIC_API_KEY"),
    ],
)
def test_mistakes_are_one_line_and_the_session_stays_usable(
    front: FrontEnd, code: str, words: str
) -> None:
    cell = front.execute(code)
    front.until(lambda: front.is_done(cell), 60)
    (error,) = front.of(cell, "error")
    (line,) = error["content"]["traceback"]
    assert line.startswith("agent: ")
    assert words in line
    front.run("%env OPENAI_API_KEY=sk-test")
    assert front.run("%agent --model openai/hello --out r hi") == ""
    assert front.run("print(r.text)") == "Hello from the model.\n"
