"""Replies that are data: the JSON in a text, what it has to look like, and asking again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest
from IPython.core.error import UsageError
from typing_extensions import TypedDict

from agent_magics.client import CommandCall, TextInput
from agent_magics.notebook import InvalidReply, TurnFailed, ask_json
from agent_magics.notebook._data._shape import NotFitting, fitting_value, shape_of
from tests.support.fake_session import FakeClient, FakeTurn, broken, install


class City(pydantic.BaseModel):
    name: str
    people: int = pydantic.Field(gt=0)


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Named(TypedDict):
    name: str


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name"],
}
ROME = '{"name": "Rome", "people": 3}'


# -- the shape


def test_what_describes_a_shape() -> None:
    assert fitting_value(ROME, shape_of(City)) == City(name="Rome", people=3)
    assert fitting_value(f"[{ROME}]", shape_of(list[City])) == [City(name="Rome", people=3)]
    assert fitting_value('{"x": 1, "y": 2.5}', shape_of(Point)) == Point(1, 2.5)
    assert fitting_value(ROME, shape_of(Named)) == {"name": "Rome"}
    assert fitting_value(ROME, shape_of(SCHEMA)) == {"name": "Rome", "people": 3}
    assert fitting_value("[1, 2]", shape_of({"type": "array"})) == [1, 2]
    assert shape_of(City).schema["properties"]["people"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("model", [{"type": "nonsense"}, {"x": {1}}, object(), 3, "City"])
def test_what_describes_none(model: Any) -> None:
    with pytest.raises(UsageError, match="--json"):
        shape_of(model)


def test_problems_say_where() -> None:
    reply = '[{"name": "Rome", "people": "many"}, {"people": 0}]'
    with pytest.raises(NotFitting) as raised:
        fitting_value(reply, shape_of(list[City]))
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == [
        "$[0].people",
        "$[1].name",
        "$[1].people",
    ]
    with pytest.raises(NotFitting, match=r"\$\.people: 'many' is not of type 'integer'"):
        fitting_value('{"name": "x", "people": "many"}', shape_of(SCHEMA))
    many = json.dumps([{}] * 100)
    with pytest.raises(NotFitting, match="and 190 more"):
        fitting_value(many, shape_of(list[City]))


def test_a_schema_fetches_nothing() -> None:
    shape = shape_of({"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(UsageError, match="refers to what is not in it"):
        fitting_value("1", shape)


REPLIES = {
    "bare": ROME,
    "fenced": f"Here it is:\n\n```json\n{ROME}\n```\nBye.",
    "unnamed fence": f"```\n{ROME}\n```",
    "the last fence": f'```json\n{{"name": 1}}\n```\nNo:\n```json\n{ROME}\n```',
    "the one that fits": f'```json\n{ROME}\n```\nSuch as\n```json\n{{"a": 1}}\n```',
    "between words": f"I say {ROME} and no more.",
    "after braces": "{{{ [not json] {" + ROME,
    "in a list": f"- {ROME}",
}


@pytest.mark.parametrize("form", REPLIES)
def test_json_is_found(form: str) -> None:
    assert fitting_value(REPLIES[form], shape_of(City)).name == "Rome"


@pytest.mark.parametrize("text", ["", "none", "{", "```json\n{\n```", "{" * 20_000, "[" * 20_000])
def test_there_is_none(text: str) -> None:
    with pytest.raises(NotFitting, match="no JSON"):
        fitting_value(text, shape_of(City))


def test_numbers_that_json_does_not_have() -> None:
    with pytest.raises(NotFitting, match="no JSON"):
        fitting_value("NaN", shape_of({"type": "number"}))


# -- asking


def saying(*replies: str) -> Callable[[FakeTurn], None]:
    """A script whose turns say these one after the other."""
    left = list(replies)
    return lambda turn: turn.say(left.pop(0))


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, saying(f"```json\n{ROME}\n```"))
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def prompts(client: FakeClient) -> list[Any]:
    return [turn.prompt for session in client.sessions.values() for turn in session.turns]


def test_the_schema_goes_along_and_the_value_comes_back(client: FakeClient) -> None:
    assert ask_json("Which city?", City) == City(name="Rome", people=3)
    ((prompt, wish),) = prompts(client)
    assert prompt == "Which city?" and isinstance(wish, TextInput)
    assert json.loads(wish.text.split("```")[1].removeprefix("json")) == City.model_json_schema()


def test_a_wrong_reply_is_asked_for_again(client: FakeClient) -> None:
    client.script = saying("Rome, I think.", '{"name": "Rome", "people": -1}', ROME)
    assert ask_json("Which?", City, new=True, title="T", model="a/b").people == 3
    _, first, second = prompts(client)
    assert "There is no JSON in the reply." in first
    assert "$.people: Input should be greater than 0" in second
    assert len([call for call in client.calls if call[0] == "create"]) == 1
    assert [t.model for s in client.sessions.values() for t in s.turns] == ["a/b"] * 3


def test_it_gives_up_with_what_was_said(client: FakeClient) -> None:
    client.script = saying("a", "b", "c")
    with pytest.raises(InvalidReply, match="no JSON") as raised:
        ask_json("Which?", City)
    assert raised.value.raw == "c" and isinstance(raised.value, TurnFailed)
    assert raised.value.result is not None and raised.value.name == "InvalidReply"
    client.script = saying("only once")
    for session in client.sessions.values():
        session.script = client.script
    with pytest.raises(InvalidReply, match="no JSON"):
        ask_json("Which?", City, retries=0)
    with pytest.raises(ValueError, match="retries"):
        ask_json("Which?", City, retries=-1)


def test_other_prompts(client: FakeClient) -> None:
    assert ask_json({"parts": [{"type": "text", "text": "x"}]}, SCHEMA)["name"] == "Rome"
    with pytest.raises(UsageError, match="not with commands"):
        ask_json(CommandCall("profile"), City)


def test_a_failed_turn_stays_one(client: FakeClient) -> None:
    client.script = broken
    with pytest.raises(TurnFailed, match="500") as raised:
        ask_json("Which?", City)
    assert not isinstance(raised.value, InvalidReply)


def test_the_magic(shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns |= {"City": City, "shapes": dataclasses, "number": 3}
    shell.run_cell("import types; models = types.SimpleNamespace(City=City)")
    client.script = lambda turn: turn.say(ROME)
    assert shell.run_cell("%agent --json City --out rome Which?").success
    assert shell.user_ns["rome"] == City(name="Rome", people=3)
    assert shell.user_ns["_agent"].text == ROME
    assert shell.run_cell("%agent --json models.City Which?").success
    assert shell.user_ns["_agent_json"] == City(name="Rome", people=3)
    sent = len(prompts(client))
    for name in ("Missing", "models.Missing", "number", "a-b"):
        assert not shell.run_cell(f"%agent --json {name} Which?").success
        assert "--json" in capsys.readouterr().err
    assert not shell.run_cell("%agent -b --json City Which?").success
    assert len(prompts(client)) == sent


def test_a_recorded_reply_is_checked_again(shell: Any, client: FakeClient, tmp_path: Any) -> None:
    file = tmp_path / "turn.jsonl"
    assert ask_json("Which?", City, record=file).people == 3
    assert ask_json("Which?", City, replay=file, speed=0).people == 3
    with pytest.raises(InvalidReply, match=r"\$\.x"):
        ask_json("", Point, replay=file, speed=0)


def test_pydantic_and_jsonschema_come_only_when_needed() -> None:
    code = (
        "import sys, agent_magics.notebook._data._structured\n"
        "print(sorted({'pydantic', 'jsonschema'} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
