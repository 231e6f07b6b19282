"""The magics in a real IPython shell, with a fake session behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agent_magics.wire import ShellResult
from tests.support.fake_session import FakeClient, FakeSession, broken, full, hello, install


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, hello)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def sent(client: FakeClient) -> list[str]:
    return [turn.prompt for session in client.sessions.values() for turn in session.turns]


def only_session(client: FakeClient) -> FakeSession:
    (session,) = client.sessions.values()
    return session


def cell(shell: Any, code: str) -> Any:
    """Run a cell; gives IPython's result."""
    return shell.run_cell(code)


def test_cell_and_line_share_one_session(shell: Any, client: FakeClient) -> None:
    assert cell(shell, "%%agent\nfirst line\n  second\n\n").success
    assert cell(shell, "%agent what about this?").success
    assert cell(shell, "%%agent\nis this a question?").success
    assert sent(client) == ["first line\n  second\n", "what about this?", "is this a question?"]
    assert [call[0] for call in client.calls] == ["create"]


def test_text_behind_the_cell_magic_is_part_of_the_prompt(shell: Any, client: FakeClient) -> None:
    cell(shell, "%%agent --raw Look:\nbody")
    assert sent(client) == ["Look:\nbody"]


PROMPTS = [
    'json = {"a": [1, 2], "b": {}}',
    "f'{x!r} {{y}} {undefined}' $x ${undefined} $(ls)",
    "<script>alert('{x }')</script> & \\n \\ ' \"",
    "%magic !shell ?help\n!ls\n%cd /\n?x",
    "{{undefined}} {% if a %} \\frac{{a}}{{b}}",
    "ünïcode 👩‍💻 \u202e",
    "many words " * 100_000,
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:12])
def test_prompts_arrive_unchanged(shell: Any, client: FakeClient, prompt: str) -> None:
    shell.user_ns["x"] = "NO"
    assert cell(shell, f"%%agent\n{prompt}").success
    assert sent(client) == [prompt]


def test_variables_are_inserted_once(shell: Any, client: FakeClient) -> None:
    cell(shell, "x = '{y} $y'; y = 2")
    cell(shell, "%%agent\n{x} {{y}} {z} {y}")
    cell(shell, "%%agent --raw\n{x}")
    cell(shell, "%agent {y} $y")
    assert sent(client) == ["{y} $y {y} {z} 2", "{x}", "2 $y"]


def test_local_variables_of_a_function(shell: Any, client: FakeClient) -> None:
    cell(shell, "def f(topic):\n    %agent tell me about {topic}\n")
    assert cell(shell, "f('bees'); f('ants')").success
    assert sent(client) == ["tell me about bees", "tell me about ants"]


def test_names_of_ipython_are_no_variables(shell: Any, client: FakeClient) -> None:
    cell(shell, "%%agent\n{In} {Out} {_} {exit} {__name__} {get_ipython}")
    assert sent(client) == ["{In} {Out} {_} {exit} {__name__} {get_ipython}"]


def test_an_attribute_that_is_missing_is_noted(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(shell, "x = 1")
    cell(shell, "%%agent\n{x.nope}")
    assert sent(client) == ["{x.nope}"]
    assert "{x.nope} is sent as it is" in capsys.readouterr().out


def test_results_land_in_variables(shell: Any, client: FakeClient) -> None:
    cell(shell, "%agent --out answer one")
    assert shell.user_ns["answer"].text == "You said: one"
    assert shell.user_ns["_agent"] is shell.user_ns["answer"]
    result = cell(shell, "%agent two")
    assert result.result is None
    assert shell.user_ns["_agent"].text == "You said: two"


def test_a_failed_turn_fails_the_cell_in_one_line(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.script = broken
    result = cell(shell, "%agent --out answer go")
    assert not result.success
    out = capsys.readouterr()
    assert "agent: APIError: The model's server answered 500.\n" in out.out + out.err
    assert "Traceback" not in out.out + out.err
    assert shell.user_ns["answer"].error.name == "APIError"


def test_options_reach_the_turn(shell: Any, client: FakeClient) -> None:
    cell(shell, "%agent --model a/b --agent plan --title T --sandbox local --permissions once hi")
    assert client.calls == [("create", "T", {"model": "a/b", "sandbox": "local", "network": None})]
    (turn,) = only_session(client).turns
    assert (turn.model, turn.agent) == ("a/b", "plan")


def test_settings_reach_the_turn(shell: Any, client: FakeClient) -> None:
    client.script = full
    cell(shell, "%config AgentMagics.model = 'x/y'")
    cell(shell, "%config AgentMagics.headless = 'always'")
    cell(shell, "%agent hi")
    assert only_session(client).turns[0].model == "x/y"
    assert only_session(client).calls[0][2] == "always"
    cell(shell, "%agent --permissions reject hi")
    assert only_session(client).calls[1][2] == "reject"


def test_sessions_can_be_chosen(shell: Any, client: FakeClient) -> None:
    cell(shell, "%agent one")
    cell(shell, "%agent --session ses_other two")
    cell(shell, "%agent three")
    cell(shell, "%agent --new four")
    cell(shell, "%agent --session new five")
    prompts = {id: [t.prompt for t in s.turns] for id, s in client.sessions.items()}
    assert prompts == {
        "ses_fake1": ["one"],
        "ses_other": ["two", "three"],
        "ses_fake2": ["four"],
        "ses_fake3": ["five"],
    }


def test_another_container_needs_a_new_session(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(shell, "%agent one")
    assert not cell(shell, "%agent --sandbox local two").success
    out = capsys.readouterr()
    assert "this session runs in 'bubblewrap'; add --new" in out.out + out.err
    assert cell(shell, "%agent --sandbox local --new three").success


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%agent --modle x hi", "did you mean --model?"),
        ("%agent", "%agent: the prompt is empty"),
        ("%agent --raw", "%agent: the prompt is empty"),
        ("%%agent\n   \n", "%agent: the prompt is empty"),
        ("%agent_shell", "%agent_shell: the command is empty"),
    ],
)
def test_usage_errors_are_short(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str], code: str, words: str
) -> None:
    result = cell(shell, code)
    assert not result.success
    out = capsys.readouterr()
    assert words in out.err
    assert "Traceback" not in out.out + out.err
    assert sent(client) == []


def test_help(shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert cell(shell, "%agent --help").success
    assert "--permissions POLICY" in capsys.readouterr().out
    cell(shell, "%agent?")
    assert "--permissions POLICY" in capsys.readouterr().out


def test_shell_runs_unchanged_and_shows_the_exit_code(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(shell, "%agent hi")
    session = only_session(client)
    session.shell_result = ShellResult("out\x1b[2J\n", "err\n", 3)
    cell(shell, "x = 1")
    capsys.readouterr()
    assert cell(shell, '%agent_shell --cwd /tmp echo "$x {x}" ?').success
    out = capsys.readouterr()
    assert (out.out, out.err) == ("out\n", "err\n[exit code 3]\n")
    assert cell(shell, "%%agent_shell --out done\nfor i in 1 2; do\n  echo $i {x}\ndone\n").success
    commands = [call[1:] for call in session.calls if call[0] == "shell"]
    assert [c[0] for c in commands] == ['echo "$x {x}" ?', "for i in 1 2; do\n  echo $i {x}\ndone"]
    assert commands[0][2] == "/tmp"
    assert shell.user_ns["done"].exit_code == 3


def test_secrets_do_not_show_in_config(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(shell, "%config AgentMagics.token = 'hush-hush'")
    capsys.readouterr()
    cell(shell, "%config AgentMagics")
    out = capsys.readouterr().out
    assert "hush-hush" not in out
    assert "AgentMagics.token" in out
    assert shell.magics_manager.registry["AgentMagics"].token == "hush-hush"


def test_bad_settings_are_refused(shell: Any, client: FakeClient) -> None:
    cell(shell, "%config AgentMagics.headless = 'maybe'")
    cell(shell, "%config AgentMagics.permission_timeout = -1.0")
    magics = shell.magics_manager.registry["AgentMagics"]
    assert (magics.headless, magics.permission_timeout) == ("reject", None)


def test_ask_does_what_the_magic_does(shell: Any, client: FakeClient) -> None:
    cell(shell, "import agent_magics")
    assert cell(shell, "r = [agent_magics.ask(w, permissions='once').text for w in 'ab']").success
    assert shell.user_ns["r"] == ["You said: a", "You said: b"]
    assert cell(shell, "s = agent_magics.current_session()").success
    assert shell.user_ns["s"] is only_session(client)
    assert cell(shell, "agent_magics.ask('c', session=s)").success
    assert not cell(shell, "agent_magics.ask('d', permissions='perhaps')").success
    assert sent(client) == ["a", "b", "c"]
