"""Agents: their tools, rules, instructions and models; where they come from; who is unknown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo

from agent_magics.engine._agent_config import AgentConfigError, agent_profile
from agent_magics.engine._agents import BUILT_IN, AgentBook
from agent_magics.engine._config import ConfigError, EngineConfig
from agent_magics.engine._errors import AgentNotFound, PermissionNotFound
from agent_magics.engine._policy import Decision, limited
from agent_magics.engine.models import ModelNotFound
from agent_magics.wire import AgentInfo as WireAgent
from tests.support.engine_harness import Harness, Step, call, engine_in, say

TEXT = [{"type": "text", "text": "go"}]
ALL = [{"permission": "*", "pattern": "*", "action": "allow"}]


class Seen:
    """What one request gave to the model."""

    def __init__(self) -> None:
        self.info: AgentInfo
        self.settings: dict[str, Any]

    def step(self, then: Step) -> Step:
        async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            self.info, self.settings = info, dict(info.model_settings or {})
            async for item in then(messages, info):
                yield item

        return step

    @property
    def tools(self) -> set[str]:
        return {tool.name for tool in self.info.function_tools}

    @property
    def instructions(self) -> str:
        return self.info.instructions or ""


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "bash", {"command": command}


def states(harness: Harness) -> list[str]:
    return [part["state"]["status"] for part in harness.recorder.parts("tool")]


async def test_build_is_what_a_session_has(tmp_path: Path) -> None:
    seen = Seen()
    async with engine_in(tmp_path, [seen.step(say("Hi."))]) as harness:
        session = await harness.session()
        await harness.turn(session)
        assert {"bash", "write", "edit", "read", "task"} <= seen.tools
        assert session.to_json()["agent"] == "build"
        user, answer = await harness.engine.messages.history(session.id)
        assert user["info"]["agent"] == answer["info"]["agent"] == "build"


@pytest.mark.parametrize("name", ["plan", "explore"])
async def test_read_only_agents_change_nothing(tmp_path: Path, name: str) -> None:
    seen = Seen()
    calls = [
        bash("ls | wc -l; head -2 f"),
        bash("echo x > f"),
        bash("ls > f"),
        bash("rm f"),
        bash("ls $(rm f)"),
        ("write", {"filePath": "f", "content": "x"}),
        ("edit", {"filePath": "f", "oldString": "data", "newString": "x"}),
    ]
    async with engine_in(tmp_path, [seen.step(call(*calls)), say("Ok.")]) as harness:
        # Not even a session where everything is allowed lets it write.
        session = await harness.session(agent=name, rules=ALL)
        session.standing = [*ALL]
        await harness.sandboxes[0].write_file("/workspace/f", b"data\n")
        assert (await harness.turn(session))["outcome"] == "completed"
        assert states(harness) == ["completed", *["error"] * 6]
        assert await harness.sandboxes[0].read_file("/workspace/f") == b"data\n"
        assert harness.recorder.of("permission.asked") == []
        assert not {"write", "edit"} & seen.tools and {"read", "bash"} <= seen.tools
        assert "change nothing" in seen.instructions and "coding agent" in seen.instructions


@pytest.mark.parametrize("name", ["plan", "explore"])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, set()),
        ({"tools": {"*": True, "?*": True}, "permission": {"*": "allow", "**": "ask"}}, set()),
        ({"tools": {"git_push": True}}, {"git_push"}),
        ({"tools": {"git_*": True, "git_push": False}}, {"git_pull"}),
        ({"permission": {"git_*": "allow"}}, {"git_push", "git_pull"}),
        ({"permission": {"git_pull": "ask", "git_push": {"*": "deny"}}}, {"git_pull"}),
        ({"permission": {"bash": "allow", "edit": "allow", "write": "allow"}}, set()),
        ({"tools": {"bash": True, "edit": True, "write": True, "art*": True, "e*": True}}, set()),
    ],
)
def test_read_only_agents_have_no_tool_that_may_write(
    name: str, settings: dict[str, Any], named: set[str]
) -> None:
    """Tools of servers: those that say that they read, and those that the user names for it."""
    agent = agent_profile(name, settings, BUILT_IN[name])
    free = Decision("allow", (), ())

    def allowed(tool: str, read_only: bool = False, **arguments: str) -> bool:
        decision = limited(agent.denials, free, tool, arguments, read_only=read_only)
        return decision.action == "allow"

    assert {tool for tool in ("git_push", "git_pull", "x_y") if allowed(tool)} == named
    assert allowed("x_y", read_only=True) and allowed("bash", command="ls -l")
    writing = ("write", "edit", "artifact", "mcp", "new-tool")
    assert not any(allowed(tool, filePath="f", path="f") for tool in writing)
    assert not allowed("bash", command="touch f")
    reading = ("read", "grep", "glob", "task", "batch", "todowrite", "skill", "webfetch")
    assert all(allowed(tool) for tool in reading)


async def test_a_read_only_agent_still_asks_where_the_rules_ask(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("ls")), say("Ok.")]) as harness:
        session = await harness.session(agent="plan")
        await harness.prompt(session)
        asked = (await harness.recorder.wait("permission.asked"))["properties"]
        assert asked["agent"] == "plan" and "parentID" not in asked
        harness.engine.permissions.reply(asked["id"], "once", None, session_id=None)
        await harness.recorder.wait("turn.ended")
        assert states(harness) == ["completed"]


async def test_an_agent_of_the_sessions_own(tmp_path: Path) -> None:
    seen, config = (
        Seen(),
        {
            "name": "reviewer",
            "model": "fake/main",
            "instructions": ["Be brief.", "Be kind."],
            "temperature": 0.25,
            "tools": {"bash": False, "*write": False, "todowrite": True},
            "permission": {"read": {"*": "allow", "*.key": "deny"}},
            "description": "Reviews.",
        },
    )
    calls = [
        bash("ls"),
        ("read", {"filePath": "a.key"}),
        ("read", {"filePath": "a.txt"}),
        ("write", {"filePath": "b", "content": "x"}),
    ]
    async with engine_in(tmp_path, [seen.step(call(*calls)), say("Fine.")]) as harness:
        response = await harness.http.post("/session", json={"agentConfig": config})
        assert response.json()["agent"] == "reviewer"
        session = harness.engine.sessions.get(response.json()["id"])
        for name in ("a.key", "a.txt"):
            await harness.sandboxes[0].write_file(f"/workspace/{name}", b"data\n")
        assert (await harness.turn(session))["outcome"] == "completed"
        assert states(harness) == ["error", "error", "completed", "error"]
        assert seen.settings["temperature"] == 0.25
        assert "Be brief.\n\nBe kind." in seen.instructions
        assert not {"bash", "write"} & seen.tools and {"read", "edit", "todowrite"} <= seen.tools
        answer = (await harness.engine.messages.history(session.id))[1]
        assert answer["info"]["agent"] == "reviewer"
    # It is kept with the session, also over a restart.
    again = Seen()
    async with engine_in(tmp_path, [again.step(say("Yes."))]) as harness:
        await harness.turn(harness.engine.sessions.get(session.id))
        assert again.settings["temperature"] == 0.25 and "bash" not in again.tools


async def test_changes_of_a_built_in_agent_keep_its_limits(tmp_path: Path) -> None:
    config = {
        "name": "plan",
        "tools": {"write": True},
        "permission": [*ALL],
        "instructions": "In French.",
    }
    seen = Seen()
    write = ("write", {"filePath": "f", "content": "x"})
    async with engine_in(tmp_path, [seen.step(call(write)), say("Non.")]) as harness:
        session = await harness.session(agent_config=config)
        assert session.agent == "plan"
        await harness.turn(session)
        assert states(harness) == ["error"] and "In French." in seen.instructions


async def test_a_prompt_may_name_another_agent(tmp_path: Path) -> None:
    plan, build = Seen(), Seen()
    async with engine_in(tmp_path, [plan.step(say("1")), build.step(say("2"))]) as harness:
        session = await harness.session()
        body = {"parts": TEXT, "agent": "plan"}
        answer = await harness.http.post(f"/session/{session.id}/message", json=body)
        assert answer.json()["info"]["agent"] == answer.json()["info"]["mode"] == "plan"
        await harness.turn(session)
        assert "write" not in plan.tools and "write" in build.tools
        users = [m["info"] for m in await harness.engine.messages.history(session.id)][::2]
        assert [u["agent"] for u in users] == ["plan", "build"] and session.agent == "build"


async def test_the_model_of_an_agent(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        other = {"name": "other", "model": "fake/nope"}
        session = await harness.session(agent_config=other)
        with pytest.raises(ModelNotFound):
            await harness.prompt(session)
        # A model that was chosen for the session or the prompt wins.
        await harness.turn(session, model="fake/main")
        session = await harness.session(
            agent_config=other, model={"providerID": "fake", "id": "main"}
        )
        assert (await harness.turn(session))["outcome"] == "completed"


async def test_unknown_agents_are_a_typed_error(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await harness.session(agent_config={"name": "mine"})
        for path, body in (
            ("/session", {"agent": "nobody"}),
            (f"/session/{session.id}/prompt_async", {"parts": TEXT, "agent": "nobody"}),
        ):
            response = await harness.http.post(path, json=body)
            assert response.status_code == 404
            error = response.json()
            assert error["name"] == "AgentNotFoundError"
            assert "build, explore, general" in error["data"]["message"]
        assert error["data"]["agents"] == ["build", "explore", "general", "mine", "plan"]
        assert harness.recorder.of("turn.started") == []


async def test_the_list_of_agents(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        listed = (await harness.http.get("/agent")).json()
        known = {"name", "description", "mode", "native", "permission", "options", "prompt"}
        assert all(set(agent) <= known for agent in listed)
        agents = {a["name"]: WireAgent.from_json(a) for a in listed}
        assert {n: a.mode for n, a in agents.items()} == {
            "build": "primary",
            "plan": "primary",
            "general": "subagent",
            "explore": "subagent",
        }
        denied = {r.permission for r in agents["plan"].permission if r.action == "deny"}
        assert {"edit", "write", "bash"} <= denied
        assert all(a.native and a.description for a in agents.values())


async def test_unattended_turns_answer_for_themselves(tmp_path: Path) -> None:
    steps = [call(bash("echo a")), say("No."), call(bash("echo b")), say("Yes.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session, unattended="reject")
        await harness.turn(session, unattended="once")
        assert states(harness) == ["error", "completed"]
        assert "Nobody is there" in harness.recorder.parts("tool")[0]["state"]["error"]
        asked = [e["properties"]["id"] for e in harness.recorder.of("permission.asked")]
        replied = [e["properties"] for e in harness.recorder.of("permission.replied")]
        assert [(r["requestID"], r["reply"]) for r in replied] == [
            (asked[0], "reject"),
            (asked[1], "once"),
        ]
        with pytest.raises(PermissionNotFound):
            harness.engine.permissions.reply(asked[0], "once", None, session_id=None)


# Configuration


def load(tmp_path: Path, text: str) -> EngineConfig:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return EngineConfig.load(path, {})


def test_agents_of_the_configuration(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [agents.reviewer]
        description = "Reviews."
        model = "lab/a/b"
        instructions = "Be brief."
        temperature = 1
        tools = {bash = false}
        permission = {read = "ask", grep = {"*" = "deny"}}
        mode = "subagent"
        [agents.plan]
        temperature = 0.5
        """,
    )
    book = AgentBook(config.agents)
    reviewer = book.get("reviewer")
    assert (reviewer.mode, reviewer.model, reviewer.temperature) == ("subagent", "lab/a/b", 1.0)
    assert reviewer.instructions == ("Be brief.",) and not reviewer.offers("bash")
    assert [(r.permission, r.action) for r in reviewer.rules] == [("read", "ask"), ("grep", "deny")]
    assert reviewer.to_json(())["model"] == {"providerID": "lab", "modelID": "a/b"}
    plan = book.get("plan")
    assert plan.temperature == 0.5 and plan.limits == BUILT_IN["plan"].limits and plan.native
    assert [agent.name for agent in book.delegable()] == ["general", "explore", "reviewer"]
    with pytest.raises(AgentNotFound, match="build, explore, general, plan, reviewer"):
        book.get("reviwer")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("agents = 1", "agents: must be a table"),
        ('agents.a = "x"', "agents.a: must be a table"),
        ('[agents."a b"]', "agents.a b.name: use up to 64"),
        ("[agents.a]\ncolour = 1", "agents.a.colour: unknown key; known are model"),
        ('[agents.a]\nmodel = "main"', "agents.a.model: 'main' is not of the form"),
        ("[agents.a]\ninstructions = 1", "agents.a.instructions: must be a text or a list"),
        ('[agents.a]\ntemperature = "warm"', "agents.a.temperature: must be a number"),
        ("[agents.a]\ntemperature = nan", "agents.a.temperature: must be a number"),
        ("[agents.a]\ntools = {bash = 0}", "agents.a.tools.bash: must be true or false"),
        ('[agents.a]\nmode = "boss"', "agents.a.mode: must be one of primary"),
        ('[agents.a]\npermission = {bash = "no"}', "agents.a.permission.bash: 'no' is not"),
        ("[agents.a]\ndescription = 1", "agents.a.description: must be a text"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"config.toml: {complaint}" in str(caught.value)


def test_instructions_have_a_limit() -> None:
    with pytest.raises(AgentConfigError, match="characters"):
        agent_profile("a", {"instructions": "x" * 200_001})
