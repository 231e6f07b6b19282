"""Who may reach what: the allow-list, the question, its answers and how long they hold."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_magics.client import BadRequest
from agent_magics.engine import _network
from agent_magics.engine._agents import BUILT_IN
from agent_magics.engine._config import ConfigError, EngineConfig
from agent_magics.engine._network_config import NetworkConfig
from agent_magics.engine._policy import DEFAULT_RULES, Rule, decide
from agent_magics.engine._sessions import Session
from agent_magics.sandbox import ProviderReport, Sandbox, open_sandbox, probe
from agent_magics.wire import PermissionAsked, PermissionRequest, ToolComplete
from tests.support.engine_harness import Harness, Step, call, engine_in, eventually, say
from tests.support.engine_process import EngineProcess, started
from tests.support.proxied import SERVER, server
from tests.support.served_client import clients_of

SITE = ("data.example.org", 443)
FREE = [{"permission": "bash", "pattern": "*", "action": "allow"}]
RUNNING = call(("bash", {"command": "until [ -e over ]; do sleep 0.02; done"}))


def bash(command: str) -> Step:
    return call(("bash", {"command": command}))


async def permit(harness: Harness, host: str = SITE[0], port: int = SITE[1]) -> str:
    """A connection out of the session's container; empty when it is allowed."""
    reason: str = await harness.sandboxes[0].network.permit(host, port)
    return reason


def reply(harness: Harness, request: dict[str, Any], answer: Any) -> None:
    harness.engine.permissions.reply(request["id"], answer, None, session_id=None)


async def asked(harness: Harness, count: int = 1) -> dict[str, Any]:
    request: dict[str, Any] = (await harness.recorder.wait("permission.asked", count))["properties"]
    return request


def running(harness: Harness) -> list[dict[str, Any]]:
    tools = harness.recorder.parts("tool")
    return [part for part in tools if part["state"]["status"] == "running"]


@asynccontextmanager
async def at_work(
    directory: Path, config: NetworkConfig | None = None, **values: Any
) -> AsyncIterator[tuple[Harness, Session]]:
    """A session whose agent runs a command until the end of the test."""
    config = config or NetworkConfig()
    steps = [RUNNING, say("done")]
    async with engine_in(directory, steps, network=config) as harness:
        session = await harness.session(rules=FREE, **{"network": (), **values})
        message_id = await harness.prompt(session)
        await harness.recorder.until(lambda: bool(running(harness)))
        yield harness, session
        await harness.sandboxes[0].write_file("over", b"")
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] in ("completed", "aborted")
        assert harness.engine.permissions.pending() == []


# --- rules


def network(*rules: Rule, host: str = SITE[0], port: int = 443) -> str:
    return decide((*DEFAULT_RULES, *rules), "network", {"host": host, "port": port}).action


def test_rules_about_hosts() -> None:
    assert network() == "ask"
    assert network(Rule("network", "*.example.org", "allow")) == "allow"
    assert network(Rule("network", "*.example.org", "allow"), port=22) == "ask"
    assert network(Rule("network", "data.example.org:22", "allow"), port=22) == "allow"
    assert network(Rule("network", "packages", "allow"), host="pypi.org") == "allow"
    denied = (Rule("network", "*", "allow"), Rule("network", "*.example.org", "deny"))
    assert network(*denied, port=22) == "deny" and network(*denied, host="a.org") == "allow"
    assert network(Rule("webfetch", "*", "allow")) == "ask"


def test_what_is_asked_and_what_always_means() -> None:
    decision = decide(DEFAULT_RULES, "network", {"host": "2606:2800::1", "port": 443})
    assert decision.patterns == ("[2606:2800::1]:443",)
    again = Rule("network", decision.always[0], "allow")
    assert network(again, host="2606:2800::1") == "allow"
    assert network(again, host="2606:2800::1", port=80) == "ask"
    assert decide(DEFAULT_RULES, "network", {}).action == "ask"


# --- configuration


def load(tmp_path: Path, text: str) -> EngineConfig:
    (tmp_path / "config.toml").write_text(text)
    return EngineConfig.load(tmp_path / "config.toml", {})


def test_the_table(tmp_path: Path) -> None:
    assert load(tmp_path, "").network == NetworkConfig(on=False)
    found = load(
        tmp_path,
        """
        [network]
        allow = ["packages", "Data.example.org", "*.example.edu:443"]
        deny = ["paste.example.org"]
        ask = false
        private = ["wiki.lab", "10.1.0.0/16"]
        index = "https://pypi.example.edu:8443/simple/"
        """,
    ).network
    assert found == NetworkConfig(
        on=True,
        allow=("packages", "data.example.org", "*.example.edu:443"),
        deny=("paste.example.org",),
        ask=False,
        private=("wiki.lab", "10.1.0.0/16"),
        index="https://pypi.example.edu:8443/simple",
    )
    assert found.rules == (
        Rule("network", "*", "deny"),
        Rule("network", "packages", "allow"),
        Rule("network", "data.example.org", "allow"),
        Rule("network", "*.example.edu:443", "allow"),
        Rule("network", "pypi.example.edu:8443", "allow"),
    )
    assert found.environ == {"PIP_INDEX_URL": "https://pypi.example.edu:8443/simple"}
    assert not load(tmp_path, "[network]\non = false").network.on


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('allow = ["package"]', "network.allow: 'package' is no group"),
        ('allow = ["http://x.org"]', "network.allow: 'http://x.org'"),
        ("allow = 3", "network.allow: must be a list of texts"),
        ('deny = ["a b"]', "network.deny: 'a b'"),
        ('private = ["*.lab"]', "network.private: '*.lab'"),
        ('ask = "no"', "network.ask: must be true or false"),
        ("on = 1", "network.on: must be true or false"),
        ('index = "https://me:secret@x.org/simple"', "network.index: must have no user name"),
        ('index = "x.org"', "network.index: must be an http:// or https:// URL"),
        ('hosts = ["x.org"]', "network.hosts: unknown key"),
    ],
)
def test_what_the_table_may_not_say(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"[network]\n{line}")
    assert complaint in str(raised.value)
    assert "secret" not in str(raised.value)


# --- sessions


async def test_which_sessions_have_one(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        assert (await harness.session()).network is None
        assert (await harness.session(network=False)).network is None
        assert (await harness.session(network=True)).network == []
        session = await harness.session(network=("packages",))
        assert session.network == ["packages"]
        assert session.to_json()["network"] == {"allow": ["packages"]}
        assert [box.network is not None for box in harness.sandboxes] == [False, False, True, True]
        fork, _ = await harness.engine.forks.fork(session, None)
        assert fork.network == ["packages"]
    async with engine_in(tmp_path / "on", network=NetworkConfig(on=True)) as harness:
        assert (await harness.session()).network == []
        assert (await harness.session(network=False)).network is None


async def test_what_the_model_is_told(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("a"), say("b"), say("c")]) as harness:
        for values in ({}, {"network": True}, {"sandbox": "local"}):
            await harness.turn(await harness.session(**values))
        tools = [{t.name: t.description for t in i.function_tools} for i in harness.model.infos]
    assert "The container has no network" in str(tools[0]["bash"])
    assert "HTTP proxy only" in str(tools[1]["bash"])
    assert "the network of the machine" in str(tools[2]["bash"])


# --- questions


async def test_listed_hosts_are_not_asked_about(tmp_path: Path) -> None:
    config = NetworkConfig(allow=("*.example.org",), deny=("paste.example.org",))
    rules = (*DEFAULT_RULES, *config.rules)
    assert network(*rules) == "allow"
    async with at_work(tmp_path, config, network=("other.example.com", "*.example.org")) as (
        harness,
        _,
    ):
        assert await permit(harness) == ""
        assert await permit(harness, "other.example.com") == ""
        assert "is not allowed here" in await permit(harness, "paste.example.org")
        assert harness.recorder.of("permission.asked") == []


async def test_once_holds_for_the_command(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (harness, session):
        first, second = (asyncio.create_task(permit(harness)) for _ in range(2))
        request = await asked(harness)
        (part,) = running(harness)
        assert request["permission"] == "network" and request["sessionID"] == session.id
        assert request["patterns"] == request["always"] == ["data.example.org:443"]
        assert request["metadata"] == {"host": "data.example.org", "port": 443}
        assert request["tool"] == {"messageID": part["messageID"], "callID": part["callID"]}
        reply(harness, request, "once")
        assert await first == await second == ""
        assert await permit(harness) == ""
        assert len(harness.recorder.of("permission.asked")) == 1
        other = asyncio.create_task(permit(harness, port=80))
        reply(harness, await asked(harness, 2), "reject")
        assert "data.example.org:80 was not allowed. The user rejected" in await other
        assert "rejected" in await permit(harness, port=80)
        assert len(harness.recorder.of("permission.asked")) == 2
    # the command is over, and its answers with it
    assert session.standing == []


async def test_always_holds_for_the_session(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (harness, session):
        wanted = asyncio.create_task(permit(harness))
        reply(harness, await asked(harness), "always")
        assert await wanted == ""
        assert session.standing == [
            {"permission": "network", "pattern": "data.example.org:443", "action": "allow"}
        ]
        await harness.sandboxes[0].write_file("over", b"")
        await harness.recorder.wait("turn.ended")
        assert await permit(harness) == ""
        assert "nobody can be asked now" in await permit(harness, port=80)
        (rule,) = harness.engine.permissions.standing(session)
        harness.engine.permissions.withdraw(session, rule["id"])
        assert "nobody can be asked now" in await permit(harness)


async def test_nobody_is_asked_without_a_turn(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        await harness.session(network=True)
        assert "nobody can be asked now" in await permit(harness)
        assert harness.recorder.of("permission.asked") == []


@pytest.mark.parametrize(("policy", "answer"), [("once", ""), ("reject", "was not allowed")])
async def test_policies_answer(tmp_path: Path, policy: Any, answer: str) -> None:
    async with engine_in(tmp_path, [RUNNING, say("done")]) as harness:
        session = await harness.session(network=True, rules=FREE)
        await harness.prompt(session, unattended=policy)
        await harness.recorder.until(lambda: bool(running(harness)))
        reason = await permit(harness)
        assert answer in reason if answer else reason == ""
        assert (await harness.recorder.wait("permission.replied"))["properties"]["reply"] == policy
        await harness.sandboxes[0].write_file("over", b"")
        await harness.recorder.wait("turn.ended")


async def test_the_end_of_the_command_withdraws_its_question(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (harness, _):
        wanted = asyncio.create_task(permit(harness))
        request = await asked(harness)
        await harness.sandboxes[0].write_file("over", b"")
        assert "was not allowed" in await wanted
        replied = await harness.recorder.wait("permission.replied", requestID=request["id"])
        assert replied["properties"]["reply"] == "reject"
        await harness.recorder.wait("turn.ended")
        states = [
            event["properties"]["part"].get("state", {}).get("status")
            if event["type"] == "message.part.updated"
            else event["type"]
            for event in harness.recorder.events
        ]
        assert states.index("permission.replied") < states.index("completed")


async def test_an_abort_withdraws_questions(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (harness, session):
        wanted = asyncio.create_task(permit(harness))
        await asked(harness)
        assert await harness.engine.abort(session)
        assert "was not allowed" in await wanted
        await harness.recorder.wait("turn.ended")
        types = harness.recorder.types
        assert types.index("permission.replied") < types.index("turn.ended")


async def test_a_background_process_asks_for_the_session(tmp_path: Path) -> None:
    """After its command; as long as the turn goes on somebody may answer."""
    gate = asyncio.Event()

    async def step(messages: Any, info: Any) -> AsyncIterator[Any]:
        await gate.wait()
        yield "done"

    async with engine_in(tmp_path, [step]) as harness:
        session = await harness.session(network=True)
        await harness.prompt(session)
        wanted = asyncio.create_task(permit(harness))
        request = await asked(harness)
        assert "tool" not in request and request["sessionID"] == session.id
        assert PermissionRequest.from_json(request).call_id == ""
        reply(harness, request, "once")
        assert await wanted == "" and await permit(harness) == ""
        left = asyncio.create_task(permit(harness, port=80))
        await asked(harness, 2)
        gate.set()
        assert "was not allowed" in await left
        await harness.recorder.wait("turn.ended")


async def test_a_question_outlives_its_connection_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path) as (harness, _):
        wanted = asyncio.create_task(permit(harness))
        request = await asked(harness)
        wanted.cancel()
        await asyncio.wait({wanted})
        assert harness.engine.permissions.pending() == [request]
        again = asyncio.create_task(permit(harness))
        reply(harness, request, "once")
        assert await again == ""
        assert len(harness.recorder.of("permission.asked")) == 1
    monkeypatch.setattr(_network, "GRACE", 0.01)
    async with at_work(tmp_path / "short") as (harness, _):
        wanted = asyncio.create_task(permit(harness))
        request = await asked(harness)
        wanted.cancel()
        await harness.recorder.wait("permission.replied", requestID=request["id"], reply="reject")


async def test_a_question_that_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_network, "ASK_TIMEOUT", 0.05)
    async with at_work(tmp_path) as (harness, _):
        assert "Nobody answered" in await permit(harness)
        await harness.recorder.wait("permission.replied", reply="reject")


async def test_too_many_questions_at_a_time(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (harness, session):
        ports = range(1, 1 + _network.MOST_QUESTIONS)
        wanted = [asyncio.create_task(permit(harness, port=port)) for port in ports]
        await asked(harness, len(ports))
        assert "Too many other hosts" in await permit(harness)
        await harness.engine.abort(session)
        assert all("was not allowed" in reason for reason in await asyncio.gather(*wanted))


async def test_what_an_agent_may_never_do(tmp_path: Path) -> None:
    config = NetworkConfig(allow=("*",))
    agent = {"name": "offline", "tools": {"network": False}}
    async with at_work(tmp_path, config, agent_config=agent, network=("*",)) as (harness, _):
        assert "is not allowed here" in await permit(harness)
    assert not BUILT_IN["build"].denials


async def test_a_command_of_a_sub_agent(tmp_path: Path) -> None:
    delegate = {"description": "d", "prompt": "CHILD'S JOB", "subagent_type": "general"}

    async def step(messages: Any, info: Any) -> AsyncIterator[Any]:
        first = RUNNING if "CHILD'S JOB" in str(messages) else call(("task", delegate))
        async for item in (first if len(messages) == 1 else say("done"))(messages, info):
            yield item

    async with engine_in(tmp_path, [step] * 4) as harness:
        session = await harness.session(rules=FREE, network=True)
        await harness.prompt(session)
        await harness.recorder.until(lambda: any(p["tool"] == "bash" for p in running(harness)))
        (child,) = harness.engine.sessions.children(session.id)
        assert child.network == []
        wanted = asyncio.create_task(permit(harness))
        request = await asked(harness)
        assert request["sessionID"] == child.id and request["parentID"] == session.id
        reply(harness, request, "always")
        assert await wanted == ""
        assert session.standing[0]["permission"] == "network"
        await harness.sandboxes[0].write_file("over", b"")
        await harness.recorder.wait("turn.ended", 2)


# --- all of it, with real containers and over HTTP


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory whose path fits into a socket's address."""
    with tempfile.TemporaryDirectory(prefix="am-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def bubblewrap() -> ProviderReport:
    return next(report for report in probe() if report.name == "bubblewrap")


@pytest.mark.container
async def test_once_always_and_reject_over_http(
    tmp_path: Path, short_dir: Path, bubblewrap: ProviderReport
) -> None:
    if not bubblewrap.works:
        pytest.skip(f"NO CONTAINERS HERE: {bubblewrap.reason}")

    async def resolve(host: str, port: int) -> list[str]:
        return [SERVER]

    def opened(root: Path, **options: Any) -> Sandbox:
        return open_sandbox(
            root, **{**options, "network": replace(options["network"], resolve=resolve)}
        )

    config = NetworkConfig(private=(SERVER,), deny=("paste.example.org",))
    replies: dict[str, Any] = {"once": "once", "always": "always", "no": "reject"}
    async with server() as port:
        steps = [
            bash(f"for i in 1 2; do curl -sS http://{host}.example.org:{port}/; done")
            for host in ("once", "once", "always", "always", "no", "paste")
        ]
        async with (
            engine_in(
                tmp_path, [*steps, say("done")], open_sandbox=opened, network=config
            ) as harness,
            clients_of(harness, short_dir) as (client, _),
        ):
            with pytest.raises(BadRequest, match="is no group of hosts"):
                await client.create_session(network=["package"])
            session = await client.create_session(network=["other.example.org"], permission=FREE)
            assert (await session.get_info()).network == ("other.example.org",)
            shown: list[str] = []
            requests: list[PermissionRequest] = []
            async for event in session.stream("go"):
                if isinstance(event, PermissionAsked):
                    requests.append(event.request)
                    host = str(event.request.metadata["host"]).partition(".")[0]
                    await session.reply_to_permission(event.request.id, replies[host])
                elif isinstance(event, ToolComplete):
                    shown.append(event.part.state.output)
            hosts = [request.metadata["host"].partition(".")[0] for request in requests]
            assert hosts == ["once", "once", "always", "no"]
            assert shown[:4] == ["hellohello"] * 4
            assert shown[4].count("was not allowed. The user rejected") == 2
            assert shown[5].count("is not allowed here. The user can open it") == 2
            assert [rule.pattern for rule in await session.get_rules()] == [
                f"always.example.org:{port}"
            ]
            await eventually(lambda: harness.engine.permissions.pending() == [])


CONFIG = """
sandbox = "bubblewrap"
[network]
allow = ["{server}:{port}"]
deny = ["paste.example.org"]
private = ["{server}"]
index = "https://pypi.example.edu/simple"
"""


@pytest.mark.container
async def test_the_engine_reads_the_configuration(bubblewrap: ProviderReport) -> None:
    if not bubblewrap.works:
        pytest.skip(f"NO CONTAINERS HERE: {bubblewrap.reason}")
    async with server() as port:
        with EngineProcess() as engine:
            engine.config.write_text(CONFIG.format(server=SERVER, port=port))
            async with started(engine) as client:
                session = (await client.post("/session", json={})).json()
                assert session["network"] == {"allow": []}

                async def output(command: str) -> str:
                    path = f"/session/{session['id']}/exec"
                    done = (await client.post(path, json={"command": command})).json()
                    return str(done["stdout"] + done["stderr"])

                assert await output(f"curl -sS http://{SERVER}:{port}/") == "hello"
                assert "not allowed here" in await output("curl -sS http://paste.example.org/")
                assert "nobody can be asked" in await output("curl -sS http://a.example.org/")
                assert "private network" in await output(f"curl -sS http://127.0.0.3:{port}/")
                assert await output("echo $PIP_INDEX_URL") == "https://pypi.example.edu/simple\n"
                closed = (await client.post("/session", json={"network": False})).json()
                assert "network" not in closed
                refused = await client.post("/session", json={"network": ["a b"]})
                assert refused.status_code == 400 and "network" in refused.text
