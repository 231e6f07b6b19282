"""The demo model's walk-throughs, on real tools, files and Python processes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import pandas
import pydantic
import pytest
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from agent_magics.engine._context import kept_messages
from agent_magics.engine._transcript import summary_prompts
from agent_magics.engine.models.demo import GuideModel
from agent_magics.engine.models.demo._csv_request import (
    Column,
    choose,
    parse_csv_request,
    table_path,
)
from agent_magics.engine.models.demo._csv_script import header
from agent_magics.engine.models.demo._json_reply import json_reply, wanted_schema, without_schema
from agent_magics.engine.models.demo._text import cell, code
from agent_magics.sandbox import Sandbox
from tests.support.agent_loop import Record, run_turn

MODEL = GuideModel(delay=0)
PENGUINS = "species,island,body_mass_g,sex\n" + "".join(
    f"{species},{island},{mass + 10 * i},{'male' if i % 2 else 'female'}\n"
    for species, island, mass in (
        ("Adelie", "Torgersen", 3600),
        ("Gentoo", "Biscoe", 5000),
        ("Chinstrap", "Dream", 3700),
    )
    for i in range(5)
)
PENGUINS += "Adelie,Dream,NA,\n"
TASK = (
    "Look at penguins.csv in /workspace, plan the steps, compute mean body mass per species, save "
    "a bar chart as /workspace/mass.png"
)


async def files(sandbox: Sandbox) -> set[str]:
    entries = await sandbox.list_files(recursive=True)
    return {e.path.removeprefix("/workspace/") for e in entries if e.kind == "file"}


def statuses(record: Record) -> list[str]:
    return [todo["status"] for todo in record.todos]


async def check_the_main_task(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    await run_turn(record, MODEL, TASK)
    assert record.said.startswith("*I am the built-in demo model")
    assert "| Gentoo | 5 | 5,020 |" in record.said
    assert "| Chinstrap | 5 | 3,720 |" in record.said
    assert "| Adelie | 5 | 3,620 |" in record.said
    assert "1 row without a usable value" in record.said
    assert record.asked == ["bash", "bash"]
    assert statuses(record) == ["completed"] * 4
    assert [todos[1]["status"] for todos in record.todo_history] == [
        "pending",
        "in_progress",
        "completed",
        "completed",
    ]
    assert not any(call.failed for call in record.calls.values())
    assert await files(record.sandbox) == {"penguins.csv", "demo_penguins.py", "mass.png"}
    assert (await record.sandbox.read_file("mass.png")).startswith(b"\x89PNG")
    assert "The chart is `/workspace/mass.png`." in record.said


async def test_the_main_task(record: Record) -> None:
    await check_the_main_task(record)


@pytest.mark.container
async def test_the_main_task_in_a_container(container: Sandbox) -> None:
    await check_the_main_task(Record(container))


async def test_a_follow_up_knows_the_file(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    await run_turn(record, MODEL, "median body mass per sex in penguins.csv, no chart")
    assert "**The median of `body_mass_g` per `sex`**" in record.said
    assert await files(record.sandbox) == {"penguins.csv", "demo_penguins.py"}
    stored = ModelMessagesTypeAdapter.dump_json(record.messages)
    record.messages = ModelMessagesTypeAdapter.validate_json(stored)
    record.text.clear()
    await run_turn(record, MODEL, "and now how many by island, without a chart?")
    assert "**The number of rows per `island`** in `penguins.csv`" in record.said
    assert "| Dream | 6 |" in record.said


async def test_a_missing_file_lists_those_that_are_there(record: Record) -> None:
    await record.sandbox.write_file("data/a.csv", b"x\n1\n")
    await record.sandbox.write_file("b.tsv", b"x\n1\n")
    await run_turn(record, MODEL, TASK)
    assert "penguins.csv does not exist" in record.said
    assert "`/workspace/data/a.csv`" in record.said
    assert "`/workspace/b.tsv`" in record.said
    assert statuses(record) == ["cancelled"] * 4
    assert not record.asked


async def test_no_file_at_all(record: Record) -> None:
    await run_turn(record, MODEL, "mean price per city in prices.csv")
    assert "There is no CSV file in `/workspace`." in record.said


async def test_the_only_file_needs_no_name(record: Record) -> None:
    await record.sandbox.write_file("sub/prices.csv", b"city;price\nA;1,5\nA;2,5\nB;3\n")
    await run_turn(record, MODEL, "average price per city, no chart please")
    assert "| B | 1 | 3 |" in record.said
    assert "| A | 2 | 2 |" in record.said


async def test_several_files_ask_back(record: Record) -> None:
    await record.sandbox.write_file("a.csv", b"x\n1\n")
    await record.sandbox.write_file("b.csv", b"x\n1\n")
    await run_turn(record, MODEL, "analyse the csv")
    assert "Name the one to analyse" in record.said
    assert statuses(record) == ["cancelled"] * 4


@pytest.mark.parametrize("rejected", [1, 2])
async def test_a_rejected_permission(record: Record, rejected: int) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    record.answer = lambda tool, arguments: len(record.asked) < rejected
    await run_turn(record, MODEL, TASK)
    assert len(record.asked) == rejected
    assert "You did not allow me to run Python" in record.said
    assert "%agent_shell python3 demo_penguins.py" in record.said
    assert "| Gentoo" not in record.said
    assert "in_progress" not in statuses(record)
    assert "cancelled" in statuses(record)
    assert "mass.png" not in await files(record.sandbox)


async def test_a_column_that_is_not_numeric(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    await run_turn(record, MODEL, "mean island per species of penguins.csv, no chart")
    assert "The column “island” is not numeric, so I count rows instead." in record.said
    assert "| Adelie | 6 |" in record.said


NO_MATPLOTLIB = b"raise ImportError('not here')\n"
WEIRD = {
    "bom": b"\xef\xbb\xbfcity,price\nA,1\nB,3\n",
    "utf16": "city,price\nA,1\nB,3\n".encode("utf-16"),
    "latin1": "city,price\nA,1\nM\u00fcnchen,3\n".encode("latin-1"),
    "tabs": b"city\tprice\nA\t1\nB\t3\n",
    "pipes": b"city|price\nA|1\nB|3\n",
    "ragged": b"city,price\nA\nB,3,4,5\nA,1\n\n\n",
    "duplicate": b"city,price,price\nA,1,1\nB,3,3\n",
    "quoted": b'"city","price"\n"A, the\nfirst","1"\n"B","1,234.5"\n',
    "windows": b"city,price\r\nA,1\r\nB,3\r\n",
    "long cell": b"city,price,note\nA,1," + b"x" * 300_000 + b"\nB,3,y\n",
    "formula": b"city,price\n=cmd|' /C calc'!A0,1\nB,3\n",
    "html": b"city,price\n<script>alert(1)</script>,1\n[x](javascript:alert(1)),3\n",
    "many": b"city,price\n" + b"".join(b"c%d,%d\n" % (i, i) for i in range(500)),
}


@pytest.mark.parametrize("name", WEIRD)
async def test_weird_files(record: Record, name: str) -> None:
    await record.sandbox.write_file("matplotlib.py", NO_MATPLOTLIB)
    await record.sandbox.write_file("w.csv", WEIRD[name])
    await run_turn(record, MODEL, "mean price per city in w.csv, save the chart as w.svg")
    assert "| --- | --: | --: |" in record.said, record.said
    assert statuses(record) == ["completed"] * 4
    assert "<script>" not in re.sub("`[^`]*`", "", record.said)
    svg = await record.sandbox.read_file("w.svg")
    assert b"<svg" in svg
    assert b"<script>" not in svg


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "I can't read"),
        (b"a,b\n", "has no rows of data"),
        (b"\n\n\n", "has no rows of data"),
        (b"name\nx\ny\n", "There is no numeric column"),
        (b"\0\1\2\3" * 100, "binary file"),
        (b"a,b\nNA,NA\n", "There is no numeric column"),
    ],
)
async def test_files_without_numbers(record: Record, content: bytes, said: str) -> None:
    await record.sandbox.write_file("w.csv", content)
    await run_turn(record, MODEL, "analyse w.csv, no chart")
    assert said in record.said
    assert "in_progress" not in statuses(record)


HOSTILE = [
    "a b.csv",
    "it's.csv",
    'say "hi".csv',
    "$(touch pwned).csv",
    "; touch pwned; .csv",
    "new\nline.csv",
    "-rf.csv",
    "\\n'''.csv",
    '"""+__import__("os").system("touch pwned")+""".csv',
    "{data!r}.csv",
    "<img src=x onerror=alert(1)>.csv",
    "\u202egnp.csv",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_file_names(record: Record, name: str) -> None:
    await record.sandbox.write_file(name, b"city,price\nA,1\nB,3\n")
    await run_turn(record, MODEL, f"mean price per city in `{name}`, no chart")
    assert "| B | 1 | 3 |" in record.said, record.said
    assert not {"pwned"} & await files(record.sandbox)
    commands = [call.arguments["command"] for call in record.of("bash")]
    assert all(re.fullmatch(r"python3 \w+\.py", command) for command in commands)


async def test_a_chart_outside_the_workspace_is_moved(record: Record) -> None:
    data = b"city,pri$ce\nA$_$,1\nB^{,3\n"  # matplotlib would take the dollars for formulas
    await record.sandbox.write_file("w.csv", data)
    await run_turn(record, MODEL, "mean price per city in w.csv, save it as /etc/x.svg")
    assert "so the chart goes to /workspace" in record.said
    assert "x.svg" in await files(record.sandbox)


async def test_without_matplotlib_the_chart_is_an_svg(record: Record) -> None:
    await record.sandbox.write_file("matplotlib.py", NO_MATPLOTLIB)
    await record.sandbox.write_file("w.csv", b"city,price\nA<b>,1\nB,-3\n")
    await run_turn(record, MODEL, "mean price per city in w.csv, save it as out.png")
    assert "The chart is `/workspace/out.svg`. It is an SVG" in record.said
    svg = (await record.sandbox.read_file("out.svg")).decode()
    assert svg.count("<rect") == 2
    assert "A&lt;b&gt;" in svg


async def test_a_script_that_fails_is_reported(record: Record) -> None:
    await record.sandbox.write_file("csv.py", b"raise SystemExit('no csv module')\n")
    await record.sandbox.write_file("w.csv", b"city,price\nA,1\n")
    await run_turn(record, MODEL, "mean price per city in w.csv")
    assert "The script failed" in record.said
    assert "no csv module" in record.said
    assert "in_progress" not in statuses(record)


@pytest.mark.parametrize("prompt", ["show me an error", "Please show an error!"])
async def test_a_failure_on_demand(record: Record, prompt: str) -> None:
    with pytest.raises(ModelAPIError, match="as you asked"):
        await run_turn(record, MODEL, prompt)
    assert "What was said until then is kept." in record.said
    with pytest.raises(ModelAPIError, match="as you asked"):
        request = ModelRequest(parts=[UserPromptPart(prompt)])
        await MODEL.request([request], None, ModelRequestParameters())


async def test_look_around(record: Record) -> None:
    await run_turn(record, MODEL, "Please look around")
    assert "`/workspace` is empty" in record.said
    assert "Python 3." in record.said
    assert "GB of disk are free" in record.said
    await record.sandbox.write_file("x/penguins.csv", b"")
    record.answer = lambda tool, arguments: False
    record.text.clear()
    await run_turn(record, MODEL, "what is in the workspace?")
    assert "In `/workspace` there are 1 files (1 `csv`)" in record.said
    assert "You did not allow the command" in record.said
    assert "Try next: analyse `x/penguins.csv`" in record.said


async def test_plan(record: Record) -> None:
    await run_turn(record, MODEL, "Make a plan: load the data, clean it and then draw a chart")
    assert [todo["content"] for todo in record.todos] == [
        "Load the data",
        "Clean it",
        "Draw a chart",
    ]
    assert statuses(record) == ["in_progress", "pending", "pending"]
    await run_turn(record, MODEL, "Plan my trip to Rome")
    assert record.todos[0]["content"] == "Clarify the goal: My trip to Rome"
    assert record.tools == ["todowrite", "todowrite"]


async def test_write_and_run_keeps_the_users_file(record: Record) -> None:
    await record.sandbox.write_file("hello.py", b"mine")
    await run_turn(record, MODEL, "write a hello function with a test and run it")
    assert "It works" in record.said
    assert "Ran 2 tests" in record.said
    assert await record.sandbox.read_file("hello.py") == b"mine"
    assert "hello_2.py" in await files(record.sandbox)
    assert statuses(record) == ["completed"] * 3
    record.answer = lambda tool, arguments: False
    await run_turn(record, MODEL, "write a hello function with a test and run it")
    assert "You did not allow me to run it" in record.said
    assert statuses(record)[-1] == "cancelled"


@pytest.mark.parametrize("prompt", ["hello", "Why is the sky blue?", "{} %s \0 <b>", "x" * 100_000])
async def test_anything_else(record: Record, prompt: str) -> None:
    await run_turn(record, MODEL, prompt)
    assert record.said.startswith("I am the built-in demo model")
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OLLAMA_HOST", "AGENT_MAGICS_MODEL"):
        assert name in record.said
    assert not record.tools


async def test_it_streams_at_a_pace_and_counts_tokens(record: Record) -> None:
    started = time.monotonic()
    await run_turn(record, GuideModel(delay=0.002), "hello")
    assert time.monotonic() - started > 0.002 * len(record.text)
    assert len(record.text) > 50
    reply: Any = record.messages[-1]
    assert reply.usage.input_tokens > 10
    assert len(record.said) / 8 < reply.usage.output_tokens < len(record.said)
    assert (reply.model_name, reply.provider_name) == ("guide", "demo")


def test_the_pace_comes_from_the_environment() -> None:
    assert GuideModel.from_environ({"AGENT_MAGICS_DEMO_DELAY": "0"})._delay == 0
    assert GuideModel.from_environ({"AGENT_MAGICS_DEMO_DELAY": "soon"})._delay > 0
    assert GuideModel.from_environ({"AGENT_MAGICS_DEMO_DELAY": "nan"})._delay > 0
    assert GuideModel.from_environ({})._delay > 0


@pytest.mark.parametrize(
    ("prompt", "file", "chart", "statistic", "value", "group"),
    [
        (TASK, "penguins.csv", "/workspace/mass.png", "mean", "body mass", "species"),
        (
            "total sales by city from `my x.csv`",
            "my x.csv",
            None,
            "sum",
            "sales",
            "city",
        ),
        ('max of temp for each city in "t.tsv"', "t.tsv", None, "max", "temp", "city"),
        ("don't use x.png; read 'a b.csv' by year", "a b.csv", "x.png", "mean", "", "year"),
        ("how many rows per by_me in by_city.csv?", "by_city.csv", None, "count", "rows", "by_me"),
        ("describe data/x.CSV.", "data/x.CSV", None, "mean", "", ""),
    ],
)
def test_what_a_prompt_says(
    prompt: str, file: str, chart: str | None, statistic: str, value: str, group: str
) -> None:
    request = parse_csv_request(prompt)
    assert request is not None
    found = (request.file, request.chart, request.statistic, request.value, request.group)
    assert found == (file, chart, statistic, value, group)


@pytest.mark.parametrize(
    "prompt", ["hello", "plan a party", "draw x.png", "what do you mean by that?"]
)
def test_what_is_no_analysis(prompt: str) -> None:
    assert parse_csv_request(prompt) is None


COLUMNS = [
    Column("id", "number", 100, 100),
    Column("Species", "text", 100, 3),
    Column("bodyMass", "number", 100, 80),
    Column("comment", "text", 100, 99),
    Column("year", "number", 100, 3),
]


@pytest.mark.parametrize(
    ("prompt", "group", "value"),
    [
        ("x.csv mean body mass per species", "Species", "bodyMass"),
        ("x.csv", "Species", "bodyMass"),
        ("x.csv mean of year by id", "id", "year"),
        ("x.csv something by year", "year", "bodyMass"),
        ("x.csv mean wingspan per colour", "Species", "bodyMass"),
    ],
)
def test_which_columns_are_meant(prompt: str, group: str, value: str) -> None:
    request = parse_csv_request(prompt)
    assert request is not None
    choice = choose(request, COLUMNS)
    assert (choice.group, choice.value) == (group, value)
    if "wingspan" in prompt:
        assert len(choice.notes) == 2


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "a\0b", "\u2028", "x\\"])
def test_settings_of_the_script_are_literals(text: str) -> None:
    namespace: dict[str, Any] = {}
    source = header(text, text, text, text, text, text)
    source.encode("ascii")
    assert len(source.splitlines()) == 6
    exec(source, namespace)
    assert {namespace[name] for name in ("DATA", "GROUP", "VALUE", "CHART")} == {text}


def test_text_of_others_is_inert() -> None:
    assert code("a`b``c") == "``` a`b``c ```"
    assert code("a\nb") == "`a b`"
    assert code("") == "` `"
    assert cell("a|b<c>[d](e)") == r"a\|b\<c\>\[d\]\(e\)"
    assert json.dumps(cell("x" * 500)).count("x") < 200


async def test_a_conversation_is_summed_up_by_rule(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    await run_turn(record, MODEL, TASK)
    await run_turn(record, MODEL, "plan: <b>rest</b>, sleep")
    prompt = next(summary_prompts(record.messages, record.todos, 1 << 20))
    reply = await MODEL.request(
        [ModelRequest(parts=[UserPromptPart(prompt)])], None, ModelRequestParameters()
    )
    text = reply.text or ""
    assert text.startswith("*I am the built-in demo model: a script, not an AI.")
    assert "The user asked for:\n- Look at penguins.csv" in text and "\\<b\\>rest" in text
    assert "todowrite (5)" in text and "bash (2)" in text
    assert "Files that were named" in text and "penguins.csv, demo" in text
    again = [*kept_messages(text, []), ModelRequest(parts=[UserPromptPart("and now?")])]
    prompt = next(summary_prompts(again, [], 1 << 20))
    reply = await MODEL.request(
        [ModelRequest(parts=[UserPromptPart(prompt)])], None, ModelRequestParameters()
    )
    assert (reply.text or "").count("The user asked for:") == 2
    assert (reply.text or "").count("a script, not an AI") == 1


async def test_an_agent_without_the_tools_says_so() -> None:
    prompt = [ModelRequest(parts=[UserPromptPart("look around")])]
    glob = ToolDefinition(name="glob")
    for tools, missing in (([], "bash, glob"), ([glob], "bash")):
        reply = await MODEL.request(prompt, None, ModelRequestParameters(function_tools=tools))
        assert not reply.tool_calls
        assert f"tools that the agent you chose does not have: {missing}." in (reply.text or "")


class Penguins(pydantic.BaseModel):
    class Species(pydantic.BaseModel):
        name: str
        birds: int
        mass: float

    species: list[Species]
    heaviest: str
    lightest: str
    all_birds: int
    remark: str = ""


def wish_for(schema: Mapping[str, Any]) -> str:
    task = "mean body mass per species of penguins.csv, no chart"
    wish = "End with JSON that matches this JSON Schema:"
    return f"{task}\n{wish}\n```json\n{json.dumps(schema)}\n```"


async def test_a_reply_in_json(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    await run_turn(record, MODEL, wish_for(Penguins.model_json_schema()) + "\nAttached: nothing")
    found = Penguins.model_validate_json(record.said.split("```json\n")[1].removesuffix("```"))
    assert [(s.name, s.birds, s.mass) for s in found.species] == [
        ("Gentoo", 5, 5020),
        ("Chinstrap", 5, 3720),
        ("Adelie", 5, 3620),
    ]
    assert (found.heaviest, found.lightest, found.all_birds) == ("Gentoo", "Adelie", 15)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": {"type": "number"}}, "[\n  5020.0\n]"),
        ({"type": "object", "properties": {"colour": {"type": "string"}}}, "{}"),
        (
            {
                "type": "object",
                "properties": {"colour": {"type": "string"}},
                "required": ["colour"],
            },
            "I don't know what `colour` is",
        ),
        ({"type": "string"}, "I don't know what `string` is"),
        ({"$ref": "#"}, "I don't know what `the schema` is"),
        ({"$ref": "#/$defs/none"}, "I don't know what `the schema` is"),
    ],
)
def test_json_is_only_what_the_numbers_give(schema: dict[str, Any], said: str) -> None:
    groups = [{"group": "Gentoo", "rows": 5, "value": 5020.0}]
    assert said in json_reply(schema, groups)


def test_what_is_no_wish_for_json() -> None:
    assert wanted_schema("JSON Schema:\n```json\n{\n```") is None
    assert wanted_schema("JSON Schema:\n```json\n[1]\n```") is None
    assert wanted_schema("What is a JSON Schema?") is None
    assert without_schema(wish_for({"max": 1})).endswith("no chart\n")


async def test_a_parquet_file(record: Record) -> None:
    rows = [line.split(",") for line in PENGUINS.splitlines()]
    frame = pandas.DataFrame(rows[1:], columns=rows[0])
    frame["body_mass_g"] = pandas.to_numeric(frame["body_mass_g"], errors="coerce")
    await record.sandbox.write_file("data/penguins.parquet", frame.to_parquet())
    prompt = "mean body mass per species of @penguins, no chart\nIt is data/penguins.parquet"
    await run_turn(record, MODEL, prompt)
    assert "| Gentoo | 5 | 5,020 |" in record.said and "Left out: 1 row" in record.said
    assert "read" not in record.tools


async def test_the_numbers_as_a_table(record: Record) -> None:
    await record.sandbox.write_file("penguins.csv", PENGUINS.encode())
    prompt = "mean body mass per species of penguins.csv, save the means as out/means.csv, no chart"
    await run_turn(record, MODEL, prompt)
    table = (await record.sandbox.read_file("out/means.csv")).decode().splitlines()
    assert table[:2] == ["species,rows,mean of body_mass_g", "Gentoo,5,5020.0"]
    assert "The table is `/workspace/out/means.csv`." in record.said
    request = parse_csv_request("save the table as /etc/x.csv: mean mass by species of a.csv")
    assert request is not None and request.file == "a.csv" and table_path(request) == "x.csv"


async def test_a_parquet_file_that_is_missing(record: Record) -> None:
    await run_turn(record, MODEL, "mean mass per species of none.parquet")
    assert "I can't read `none.parquet`" in record.said
