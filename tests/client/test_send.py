"""Turns: callbacks, permissions, aborts, and connections that break in the middle."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.client import (
    BadRequest,
    Busy,
    ConnectionFailed,
    FileInput,
    ProviderAuth,
    SessionNotFound,
    StreamCallbacks,
    StreamPolicy,
    TextInput,
    UnknownArgument,
)
from agent_magics.wire import (
    AgentEvent,
    PermissionAsked,
    PermissionRequest,
    ReasoningDelta,
    StatusChanged,
    TextDelta,
    TurnEnded,
    TurnStarted,
    UnknownEvent,
)
from tests.support.fake_engine import TOKEN, FakeEngine, FakeTurn
from tests.support.fake_launcher import async_client
from tests.support.turn_events import a_rich_turn
from tests.support.waiting import until


async def rich(turn: FakeTurn) -> None:
    turn.events = a_rich_turn(turn.session.id, turn.events.message_id)


async def asking(turn: FakeTurn) -> None:
    turn.events.begin()
    reply = await turn.ask("per_1")
    turn.events.write(f"got {reply}").end()


async def endless(turn: FakeTurn) -> None:
    turn.events.begin().write("half")
    turn.publish()
    await asyncio.Event().wait()


def text_of(events: list[AgentEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


# -- the ordinary ---------------------------------------------------------------------------------


async def test_send_returns_what_the_turn_brought(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        result = await session.send("hi", model="a/b/c")
        assert (result.text, result.cost, result.error) == ("Hello world", 0.5, None)
        body = engine.seen("POST", "prompt_async")[0].json
        assert body["parts"] == [{"type": "text", "text": "hi"}]
        assert body["model"] == {"providerID": "a", "modelID": "b/c"}
        assert "environ" not in body
        again = await session.send("hi")
        assert again.message_id > result.message_id
        assert [m.text for m in await session.get_messages()] == ["hi", "Hello world"] * 2


async def test_prompts_arrive_unchanged(engine: FakeEngine) -> None:
    prompt = "{braces} {{x}} \"quotes\" 'q' <b>html</b> \\n \x00 \u2028 🎉" + "x" * 1_000_000
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send(prompt)
        assert engine.seen("POST", "prompt_async")[0].json["parts"][0]["text"] == prompt


async def test_every_callback(engine: FakeEngine) -> None:
    engine.script = rich
    calls: list[tuple[str, Any]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.append((name, arguments))

    names = list(StreamCallbacks.__dataclass_fields__)
    async with async_client(engine) as client:
        session = await client.create_session()
        result = await session.send("hi", **{name: note(name) for name in names})
    told = {name for name, _ in calls}
    assert told == set(names) - {"on_disconnect", "on_tool_error", "on_error"}
    assert "".join(a[0] for name, a in calls if name == "on_text") == result.text
    assert next(a for name, a in calls if name == "on_connect") == ()


async def test_async_callbacks_and_a_callbacks_object(engine: FakeEngine) -> None:
    texts: list[str] = []
    objects: list[str] = []

    async def on_text(delta: str) -> None:
        await asyncio.sleep(0)
        texts.append(delta)

    async with async_client(engine) as client:
        session = await client.create_session()
        callbacks = StreamCallbacks(on_text=objects.append, on_reasoning=objects.append)
        await session.send("hi", callbacks, on_text=on_text)
        assert (texts, objects) == (["Hello", " world"], [])
        await session.send("hi", callbacks)
        assert objects == ["Hello", " world"]
        with pytest.raises(UnknownArgument, match="no argument 'on_txt'; it is 'on_text' here"):
            await session.send("hi", on_txt=print)


async def test_a_failing_callback_surfaces_once_and_at_the_end(engine: FakeEngine) -> None:
    calls: list[str] = []

    def fail(delta: str) -> None:
        calls.append(delta)
        raise ZeroDivisionError(delta)

    others: list[Any] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ZeroDivisionError, match="Hello"):
            await session.send("hi", on_text=fail, on_status=others.append)
        assert calls == ["Hello"]
        assert StatusChanged("busy") in others
        assert engine.sessions[session.id].status == "idle"


async def test_stream_yields_typed_events(engine: FakeEngine) -> None:
    engine.script = rich
    async with async_client(engine) as client:
        session = await client.create_session()
        async with session.stream("hi") as stream:
            assert not stream.done
            events = [event async for event in stream]
        assert [e.type for e in events[:4]] == ["status", "status", "turn-started", "status"]
        assert [e.status for e in events if isinstance(e, StatusChanged)][:3] == [
            "connecting",
            "connected",
            "busy",
        ]
        assert TurnStarted(stream.message_id) in events
        assert isinstance(events[-1], TurnEnded)
        assert text_of(events) == events[-1].result.text
        assert any(isinstance(event, ReasoningDelta) for event in events)
        assert stream.done


async def test_start_reports_to_a_function(engine: FakeEngine) -> None:
    events: list[AgentEvent] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=events.append)
        assert not turn.done
        result = await turn.result()
        assert turn.done
        assert isinstance(events[-1], TurnEnded)
        assert events[-1].result == result == await turn.result()
        await turn.abort()
        assert not engine.seen("POST", "abort")


async def test_a_failing_function_is_reported_once(engine: FakeEngine) -> None:
    events: list[AgentEvent] = []

    def fail(event: AgentEvent) -> None:
        events.append(event)
        raise ZeroDivisionError

    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=fail)
        with pytest.raises(ZeroDivisionError):
            await turn.result()
        assert (await turn.result()).text == "Hello world"
        assert [type(event) for event in events] == [StatusChanged, TurnEnded]


async def test_files_go_along(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send([TextInput("look"), FileInput(tmp_path / "t.csv")])
        assert engine.seen("POST", "prompt_async")[0].json["parts"][1] == {
            "type": "file", "mime": "text/csv", "filename": "t.csv",
            "url": "data:text/csv;base64,YSxiCg==",
        }  # fmt: skip


# -- refused prompts ------------------------------------------------------------------------------


async def test_an_empty_prompt_is_refused_without_asking(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = client.session("ses_1")
        for prompt in ["", " \n", [], [TextInput("")]]:
            with pytest.raises(BadRequest, match="empty"):
                await session.send(prompt)
        with pytest.raises(BadRequest, match="provider/model-id"):
            session.start("hi", on_event=print, model="gpt")
    assert engine.requests == []


async def test_refused_prompts_raise(engine: FakeEngine) -> None:
    refusal = {"name": "ProviderAuthError", "data": {"message": "Set OPENAI_API_KEY."}}
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(SessionNotFound):
            await client.session("ses_9").send("hi")
        engine.refusals["POST", "prompt_async"] = [(401, refusal)] * 3
        with pytest.raises(ProviderAuth, match="OPENAI_API_KEY"):
            await session.send("hi")
        events: list[AgentEvent] = []
        turn = session.start("hi", on_event=events.append)
        with pytest.raises(ProviderAuth):
            await turn.result()
        (ended,) = [e for e in events if isinstance(e, TurnEnded)]
        assert ended is events[-1]
        assert ended.outcome == "error"
        assert ended.result.error is not None
        assert (ended.result.error.name, ended.result.error.message) == (
            "ProviderAuthError",
            "Set OPENAI_API_KEY.",
        )
        del engine.refusals["POST", "prompt_async"]
        engine.script = endless
        running = session.start("hi", on_event=events.append)
        await until(lambda: text_of(events) == "half")
        with pytest.raises(Busy):
            await session.send("second")
        await running.abort()


# -- permissions ----------------------------------------------------------------------------------


async def test_a_callback_answers_permissions(engine: FakeEngine) -> None:
    engine.script = asking
    asked: list[PermissionRequest] = []

    async def slowly(request: PermissionRequest) -> str:
        await asyncio.sleep(0.01)
        return "always"

    async with async_client(engine) as client:
        session = await client.create_session()
        result = await session.send("hi", on_permission=lambda r: asked.append(r) or "once")
        assert result.text == "got once"
        assert (asked[0].id, asked[0].patterns, asked[0].always) == ("per_1", ("ls",), ("ls *",))
        assert (await session.send("hi", on_permission=slowly)).text == "got always"


async def test_without_a_callback_permissions_are_rejected(engine: FakeEngine) -> None:
    engine.script = asking
    async with async_client(engine) as client:
        session = await client.create_session()
        assert (await session.send("hi")).text == "got reject"
        assert "no permission callback" in engine.seen("POST", "reply")[0].json["message"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failing_permission_callback_rejects(engine: FakeEngine, is_async: bool) -> None:
    engine.script = asking

    def fail(request: PermissionRequest) -> str:
        raise ZeroDivisionError

    async def fail_later(request: PermissionRequest) -> str:
        raise ZeroDivisionError

    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ZeroDivisionError):
            await session.send("hi", on_permission=fail_later if is_async else fail)
        assert engine.sessions[session.id].messages[-1]["parts"][0]["text"] == "got reject"


async def test_a_senseless_answer_rejects(engine: FakeEngine) -> None:
    engine.script = asking
    engine.refusals["POST", "reply"] = [(400, {"name": "BadRequest", "data": {"message": "no"}})]
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(BadRequest):
            await session.send("hi", on_permission=lambda request: "maybe")
        assert engine.seen("POST", "reply")[1].json["reply"] == "reject"


async def test_a_late_callback_may_have_no_answer(engine: FakeEngine) -> None:
    engine.script = asking
    async with async_client(engine) as client:
        session = await client.create_session()

        async def tell_another(request: PermissionRequest) -> None:
            await session.reply_to_permission(request.id, "once")

        assert (await session.send("hi", on_permission=tell_another)).text == "got once"


async def test_somebody_else_may_answer(engine: FakeEngine) -> None:
    engine.script = asking
    async with async_client(engine) as client:
        session = await client.create_session()

        async def elsewhere(request: PermissionRequest) -> str:
            assert [p.id for p in await session.get_permissions()] == ["per_1"]
            await session.reply_to_permission(request.id, "once", "fine")
            return "reject"

        assert (await session.send("hi", on_permission=elsewhere)).text == "got once"
        tasks: list[asyncio.Task[None]] = []

        def nobody(request: PermissionRequest) -> None:
            reply = session.reply_to_permission(request.id, "once")
            tasks.append(asyncio.create_task(reply))

        assert (await session.send("hi", on_permission=nobody)).text == "got once"


# -- aborts ---------------------------------------------------------------------------------------


async def test_an_abort_keeps_what_had_arrived(engine: FakeEngine) -> None:
    engine.script = endless
    async with async_client(engine) as client:
        session = await client.create_session()

        async def abort(delta: str) -> None:
            assert await session.abort()

        result = await session.send("hi", on_text=abort)
        assert result.text == "half"
        assert result.error is not None and result.error.name == "MessageAbortedError"
        assert not await session.abort()


async def test_an_abort_before_the_prompt_is_sent(engine: FakeEngine) -> None:
    events: list[AgentEvent] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=events.append)
        await turn.abort()
        result = await turn.result()
        assert result.error is not None and result.error.name == "MessageAbortedError"
        assert isinstance(events[-1], TurnEnded) and events[-1].outcome == "aborted"
        assert not engine.seen("POST", "prompt_async")


async def test_an_abort_while_the_prompt_is_being_sent(engine: FakeEngine) -> None:
    engine.script = endless
    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=lambda event: None)
        await until(lambda: turn._runner._sending)
        await turn.abort()
        result = await turn.result()
        assert result.error is not None and result.error.name == "MessageAbortedError"


async def test_a_turn_that_cannot_be_told_to_stop_goes_on(engine: FakeEngine) -> None:
    engine.refusals["POST", "abort"] = [(500, {})]
    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=lambda event: None)
        turn._runner._abort_wanted = True  # as if it were aborted while the prompt is on its way
        assert (await turn.result()).text == "Hello world"
        assert engine.seen("POST", "abort")


async def test_cancelling_send_aborts_the_turn(engine: FakeEngine) -> None:
    engine.script = endless
    async with async_client(engine) as client:
        session = await client.create_session()
        started = asyncio.Event()
        task = asyncio.create_task(session.send("hi", on_text=lambda delta: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.sessions[session.id].status == "idle"


async def test_leaving_a_stream_ends_the_reading_not_the_turn(engine: FakeEngine) -> None:
    engine.script = endless
    async with async_client(engine) as client:
        session = await client.create_session()
        async for event in session.stream("hi"):
            if isinstance(event, TextDelta):
                break
        gc.collect()
        await until(lambda: not any("turn" in task.get_name() for task in asyncio.all_tasks()))
        assert engine.sessions[session.id].status == "busy"
        assert await session.abort()


async def test_a_stream_that_is_dropped_does_not_hold_itself(engine: FakeEngine) -> None:
    engine.script = endless
    async with async_client(engine) as client:
        session = await client.create_session()
        stream = session.stream("hi")
        await anext(stream)
        dropped = weakref.ref(stream)
        del stream
        gc.collect()
        assert dropped() is None


async def test_closing_the_client_ends_a_turn_for_its_reader(engine: FakeEngine) -> None:
    engine.script = endless
    events: list[AgentEvent] = []
    client = async_client(engine, policy=StreamPolicy(give_up=0.1, first_delay=0))
    session = await client.create_session()
    turn = session.start("hi", on_event=events.append)
    await until(lambda: text_of(events))
    await client.aclose()
    result = await turn.result()
    assert result.text == "half"
    assert result.error is not None and result.error.name == "ConnectionFailed"


# -- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize("forget", [False, True])
async def test_a_turn_survives_many_breaks(engine: FakeEngine, forget: bool) -> None:
    engine.script = rich
    engine.forget_deltas = forget
    engine.overlap = 2
    engine.cuts = [None, *range(1, 4000, 450), 0, 0]
    events: list[AgentEvent] = []
    lost: list[str] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        whole = await session.send("hi", on_text=lambda delta: None)
        async for event in session.stream("hi"):
            events.append(event)
            if isinstance(event, StatusChanged) and event.status == "reconnecting":
                lost.append(event.message)
    assert len(lost) >= 5
    assert isinstance(events[-1], TurnEnded)
    result = events[-1].result
    assert result.text == text_of(events) == whole.text
    assert [part.type for part in result.parts] == [part.type for part in whole.parts]
    assert len([e for e in events if isinstance(e, PermissionAsked)]) == 1


async def test_callbacks_learn_of_breaks(engine: FakeEngine) -> None:
    engine.script = rich
    engine.cuts = [2000]
    told: list[str] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send(
            "hi",
            on_connect=lambda: told.append("connect"),
            on_disconnect=lambda: told.append("disconnect"),
        )
    assert told == ["connect", "disconnect", "connect"]


async def test_an_engine_that_dies_for_good_ends_the_turn(engine: FakeEngine) -> None:
    engine.script = endless
    events: list[AgentEvent] = []
    async with async_client(engine) as client:
        session = await client.create_session()
        turn = session.start("hi", on_event=events.append)
        await until(lambda: text_of(events))
        engine.die()
        async with asyncio.timeout(30):
            result = await turn.result()
    assert isinstance(events[-1], TurnEnded) and events[-1].outcome == "error"
    assert result.text == "half"
    assert result.error is not None and result.error.name == "EngineStartError"


async def test_a_url_that_dies_for_good_ends_the_turn(engine: FakeEngine) -> None:
    """Nobody restarts it: the turn ends when reconnecting has failed for long enough."""
    engine.script = endless
    transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
    options = {"launcher": None, "url": "http://agent", "token": TOKEN, "transport": transport}
    policy = StreamPolicy(give_up=0.3, first_delay=0.01, longest_delay=0.2)
    async with async_client(engine, **options, policy=policy) as client:
        session = await client.create_session()
        events: list[AgentEvent] = []
        turn = session.start("hi", on_event=events.append)
        await until(lambda: text_of(events))
        engine.die()
        async with asyncio.timeout(30):
            result = await turn.result()
        assert result.error is not None and result.error.name == "ConnectionFailed"
        assert result.text == "half"
        with pytest.raises(ConnectionFailed):
            await session.send("again")


async def test_a_relaunched_engine_ends_the_turn(short_dir: Path) -> None:
    """As the real one: it reads its log, closes the turn that was cut, and goes on counting."""
    first = FakeEngine(short_dir, endless).__enter__()
    second = FakeEngine(short_dir)

    def relaunch() -> FakeEngine:
        second.sessions = first.sessions
        (session,) = second.sessions.values()
        session.status = "idle"
        second.__enter__()
        error = {"name": "EngineCrashedError", "data": {"message": "The engine was killed."}}

        def close() -> None:
            session.changed = asyncio.Event()
            turn = FakeTurn(session, first.seen("POST", "prompt_async")[0].json)
            turn.events.end("error", error)
            turn.publish()

        second.call(close)
        return second

    async with async_client(first, relaunch=relaunch) as client:
        session = await client.create_session()

        async def die(delta: str) -> None:
            await asyncio.to_thread(first.die)

        result = await session.send("hi", on_text=die)
        assert result.text == "half"
        assert result.error is not None and result.error.name == "EngineCrashedError"
        assert (await session.send("next")).text == "Hello world"
    second.die()


async def test_a_prompt_whose_answer_is_lost_is_sent_once(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        engine.lose_answers = {"prompt_async"}
        assert (await session.send("hi")).text == "Hello world"
        assert len(engine.seen("POST", "prompt_async")) == 1


async def test_a_prompt_that_did_not_arrive_is_sent_again(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        missing = (404, {"name": "NotFoundError", "data": {"message": "unknown"}})

        def not_the_first(fake: Any, body: dict[str, Any]) -> tuple[int, Any]:
            del engine._prompt  # type: ignore[method-assign]
            return missing

        engine._prompt = not_the_first  # type: ignore[method-assign]
        engine.lose_answers = {"prompt_async"}
        assert (await session.send("hi")).text == "Hello world"
        assert len(engine.seen("POST", "prompt_async")) == 2


async def test_a_turn_that_the_server_forgot_ends(engine: FakeEngine) -> None:
    """The stream stands, but nothing comes and the session is idle: ask, and end it."""

    async def vanish(turn: FakeTurn) -> None:
        turn.events.begin().write("half")
        turn.publish()
        turn.events.events.clear()
        turn._published = 0

    engine.script = vanish
    policy = StreamPolicy(quiet=0.05)
    async with async_client(engine, policy=policy) as client:
        session = await client.create_session()
        async with asyncio.timeout(30):
            result = await session.send("hi")
    assert result.text == "half"
    assert result.error is not None and result.error.name == "TurnLostError"


async def test_a_server_that_cannot_say_how_it_stands(engine: FakeEngine) -> None:
    async def slow(turn: FakeTurn) -> None:
        turn.events.begin()
        turn.publish()
        engine.refusals["GET", "status"] = [(500, {}), (200, []), (200, {turn.session.id: 5})]
        await until(lambda: not engine.refusals["GET", "status"])
        turn.events.write("late").end()

    engine.script = slow
    async with async_client(engine, policy=StreamPolicy(quiet=0.02)) as client:
        session = await client.create_session()
        assert (await session.send("hi")).text == "late"


async def test_a_quiet_turn_that_runs_is_left_alone(engine: FakeEngine) -> None:
    async def slow(turn: FakeTurn) -> None:
        turn.events.begin()
        turn.publish()
        await until(lambda: len(engine.seen("GET", "status")) > 3)
        turn.events.write("late").end()

    engine.script = slow
    async with async_client(engine, policy=StreamPolicy(quiet=0.02)) as client:
        session = await client.create_session()
        assert (await session.send("hi")).text == "late"


async def test_a_malformed_event_does_not_end_the_turn(engine: FakeEngine) -> None:
    async def odd(turn: FakeTurn) -> None:
        turn.events.begin()
        turn.events.add(
            "message.part.updated", part={"id": "x", "messageID": turn.events.answer_id}
        )
        turn.events.add("todo.updated", todos=[{}])
        turn.events.write("fine").end()

    engine.script = odd
    async with async_client(engine) as client:
        session = await client.create_session()
        events = [event async for event in session.stream("hi")]
    assert text_of(events) == "fine"
    assert len([e for e in events if isinstance(e, UnknownEvent)]) == 2


async def test_fifty_turns_at_once(engine: FakeEngine) -> None:
    engine.script = rich
    async with async_client(engine) as client:
        sessions = [await client.create_session() for _ in range(50)]
        results = await asyncio.gather(*(session.send("hi") for session in sessions))
    assert {result.text for result in results} == {results[0].text}


# -- keys -----------------------------------------------------------------------------------------


async def test_keys_go_to_the_own_engine_only(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws")

    async def sent(**options: Any) -> Any:
        async with async_client(engine, **options) as client:
            session = await client.create_session()
            await session.send("hi")
            return engine.seen("POST", "prompt_async")[-1].json.get("environ")

    def by_url() -> dict[str, Any]:
        transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
        return {"launcher": None, "url": "http://agent", "token": TOKEN, "transport": transport}

    assert await sent() == {"OPENAI_API_KEY": "sk-1"}
    assert await sent(forward_credentials=False) is None
    assert await sent(**by_url()) is None
    assert await sent(**by_url(), forward_credentials=True) == {"OPENAI_API_KEY": "sk-1"}


async def test_handles_say_who_they_are(engine: FakeEngine) -> None:
    assert repr(async_client(engine).session("ses_1")) == "AsyncSessionHandle('ses_1')"
