from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magics.client._turn import TurnReader
from agent_magics.wire import (
    AgentEvent,
    Attachment,
    Compacted,
    FilePart,
    PermissionAsked,
    PermissionReplied,
    ReasoningDelta,
    StatusChanged,
    StepFinished,
    TextDelta,
    TextPart,
    TodosUpdated,
    Tokens,
    ToolComplete,
    ToolFailed,
    ToolPart,
    ToolStart,
    ToolUpdate,
    TurnEnded,
    TurnStarted,
    UnknownEvent,
    WireError,
    WireEvent,
)
from tests.support.turn_events import Event, TurnEvents, a_rich_turn, numbered

SESSION, PROMPT = "ses_1", "msg_1"


def a_turn(message_id: str = PROMPT, **values: Any) -> TurnEvents:
    return TurnEvents(SESSION, message_id, **values).begin()


def feed(reader: TurnReader, events: list[Event], *, plain: bool = False) -> list[AgentEvent]:
    """`plain`: as an opencode server words them, without envelope and number."""
    wired = events if plain else numbered(events, SESSION)
    return [out for event in wired for out in reader.feed(WireEvent.from_json(event))]


def follow(turn: TurnEvents, **how: Any) -> list[AgentEvent]:
    return feed(TurnReader(SESSION, turn.message_id), turn.events, **how)


def text_of(events: list[AgentEvent], kind: type = TextDelta) -> str:
    return "".join(event.delta for event in events if isinstance(event, kind))


def of(events: list[AgentEvent], *kinds: type) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


def test_a_result_says_how_long_the_turn_ran() -> None:
    def message(id: str, role: str, **time: int) -> Event:
        info = {"id": id, "sessionID": SESSION, "role": role, "time": time, "parentID": PROMPT}
        return {"type": "message.updated", "properties": {"info": info}}

    prompt = message(PROMPT, "user", created=1_000)
    answers = [message(f"msg_{n}", "assistant", created=2, completed=1_000 * n) for n in (2, 3)]
    reader = TurnReader(SESSION, PROMPT)
    feed(reader, [prompt, *answers])
    assert reader.end("completed").result.seconds == 2.0
    late = TurnReader(SESSION, PROMPT)
    feed(late, answers)
    assert late.end("completed").result.seconds is None
    unanswered = TurnReader(SESSION, PROMPT)
    feed(unanswered, [prompt])
    assert unanswered.end("error").result.seconds is None


def end_of(events: list[AgentEvent]) -> TurnEnded:
    (ended,) = of(events, TurnEnded)
    assert events[-1] is ended
    return ended


def test_a_whole_turn() -> None:
    turn = a_rich_turn(SESSION, PROMPT)
    events = follow(turn)
    assert events[0] == TurnStarted(PROMPT)
    assert text_of(events) == turn.text
    assert text_of(events, ReasoningDelta) == turn.reasoning
    assert [type(e) for e in of(events, ToolStart, ToolUpdate, ToolComplete, ToolFailed)] == [
        ToolStart,  # the call appears
        ToolUpdate,  # its arguments are complete
        ToolUpdate,  # it runs
        ToolUpdate,  # output
        ToolUpdate,  # output
        ToolComplete,
    ]
    assert "".join(e.output for e in of(events, ToolUpdate)) == "a\nb\n"
    assert [e.request.id for e in of(events, PermissionAsked)] == ["per_1"]
    assert of(events, PermissionReplied) == [PermissionReplied("per_1", "once")]
    assert [[t.content for t in e.todos] for e in of(events, TodosUpdated)] == [["one", "two"]]
    assert [e.part.path for e in of(events, Attachment)] == ["/workspace/chart.png"]
    assert len(of(events, StepFinished)) == 2
    assert [e.status for e in of(events, StatusChanged)] == ["busy"]
    assert not of(events, UnknownEvent)
    ended = end_of(events)
    result = ended.result
    assert ended.outcome == "completed"
    assert result.text == turn.text
    assert result.tokens == Tokens(10, 5, 1, 2, 0)
    assert (result.cost, result.error, result.message_id) == (0.5, None, turn.answer_id)
    kinds = [part.type for part in result.parts]
    assert kinds == ["reasoning", "text", "tool", "file", "step-finish", "text", "step-finish"]


def test_the_users_own_text_is_not_the_agents() -> None:
    turn = a_turn(prompt="my prompt").write("answer").end()
    assert text_of(follow(turn)) == "answer"


def test_tokens_and_costs_are_summed_over_the_answers() -> None:
    turn = a_turn().write("one")
    turn.add("message.updated", info=turn._answer(tokens={"input": 1, "output": 2}, cost=0.25))
    turn.answer_id = "msg_1_second"
    turn.add("message.updated", info=turn._answer())
    turn.write(" two").end()
    result = end_of(follow(turn)).result
    assert (result.text, result.tokens.output, result.cost) == ("one two", 7, 0.75)
    assert result.message_id == "msg_1_second"


def test_an_unknown_price_makes_the_cost_unknown() -> None:
    turn = a_turn()
    turn.add("message.updated", info=turn._answer(cost=None))
    turn.answer_id = "msg_1_second"
    turn.add("message.updated", info=turn._answer())
    turn.end()
    assert end_of(follow(turn)).result.cost is None


def test_summaries_are_no_answers() -> None:
    turn = a_turn().write("answer")
    info = {**turn._answer(), "id": "msg_summary", "summary": True}
    turn.add("message.updated", info=info)
    turn.part("text", message_id="msg_summary", text="compacted")
    turn.add("session.compacted", messageID="msg_summary")
    turn.add("session.compacted", messageID="msg_summary")  # the same one, sent again
    turn.add("session.compacted")  # of a server that doesn't say which
    events = follow(turn.end())
    assert end_of(events).result.text == "answer"
    assert of(events, Compacted, UnknownEvent) == [Compacted("msg_summary"), Compacted()]


def test_other_turns_and_sessions_do_not_count() -> None:
    before = a_rich_turn(SESSION, "msg_0")
    mine = a_turn().write("mine")
    other = TurnEvents("ses_2", PROMPT).begin().write("other").ask("per_9").todos("x").end()
    after = a_rich_turn(SESSION, "msg_2")
    reader = TurnReader(SESSION, PROMPT)
    events = feed(reader, before.events)
    assert events == []
    events = feed(reader, mine.events)
    for event in numbered(other.events, "ses_2"):
        events += reader.feed(WireEvent.from_json(event))
    events += feed(reader, mine.end().events[-4:]) + feed(reader, after.events)
    assert text_of(events) == "mine"
    assert end_of(events).result.text == "mine"


def test_a_childs_permissions_are_asked_here() -> None:
    turn = a_turn()
    child = {"id": "ses_child", "parentID": SESSION}
    reader = TurnReader(SESSION, PROMPT)
    feed(reader, turn.events)

    def of_child(type: str, **properties: Any) -> list[AgentEvent]:
        return reader.feed(
            WireEvent(type, {**properties, "sessionID": "ses_child"}, 99, "ses_child")
        )

    asked = {"id": "per_1", "sessionID": "ses_child"}
    assert of_child("permission.asked", **asked) == []
    assert of_child("session.created", info=child) == []
    (event,) = of_child("permission.asked", **asked)
    assert event.request.session_id == "ses_child"
    assert of_child("permission.replied", requestID="per_1", reply="once")
    assert of_child("todo.updated", todos=[]) == []
    assert of_child("session.status", status={"type": "busy"}) == []
    assert of_child("session.error", error={"name": "X"}) == []
    assert of_child("session.idle") == []
    assert of_child("file.edited", file="x") == []


def test_a_failed_tool() -> None:
    events = follow(a_turn().tool(error="no such file").end())
    (failed,) = of(events, ToolFailed)
    assert failed.part.state.error == "no such file"
    assert not of(events, ToolComplete)


def test_a_tool_seen_only_when_it_was_over_starts_and_ends() -> None:
    turn = a_turn()
    state = {"status": "completed", "input": {}, "output": "x"}
    part_id = turn.part("tool", tool="bash", callID="c", state=state)
    turn.add("tool.output", partID=part_id, delta="late")
    turn.add("tool.output", partID="prt_unknown", delta="late")
    events = follow(turn)
    assert [type(e) for e in of(events, ToolStart, ToolUpdate, ToolComplete)] == [
        ToolStart,
        ToolComplete,
    ]


def test_arguments_that_stream_are_not_told_one_by_one() -> None:
    turn = a_turn()
    part_id = turn.part("tool", tool="x", callID="c", state={"status": "pending", "input": {}})
    turn.add("message.part.delta", partID=part_id, field="state.raw", delta='{"a"')
    assert len(of(follow(turn), ToolStart, ToolUpdate)) == 1


def test_unknown_things_are_passed_on() -> None:
    turn = a_turn()
    turn.add("file.edited", file="/workspace/x")
    turn.add("session.updated", info={})
    turn.part("patch", hash="abc")
    unknown = of(follow(turn), UnknownEvent)
    assert [event.event.type for event in unknown] == ["file.edited", "message.part.updated"]


def test_retries_have_their_details() -> None:
    turn = a_turn()
    turn.add("session.status", status={"type": "retry", "attempt": 2, "message": "429", "next": 5})
    assert of(follow(turn), StatusChanged)[-1] == StatusChanged("retry", "429", 2, 5)


@pytest.mark.parametrize("outcome", ["error", "aborted"])
def test_the_error_of_a_turn(outcome: str) -> None:
    error = {"name": "APIError", "data": {"message": "overloaded"}}
    ended = end_of(follow(a_turn().write("half").end(outcome, error)))
    assert ended.outcome == outcome
    assert ended.result.text == "half"
    assert ended.result.error == WireError("APIError", "overloaded", {"message": "overloaded"})


def test_text_that_was_not_closed_is_kept() -> None:
    turn = a_turn()
    part_id = turn.part("text", text="", time={"start": 1})
    turn.add("message.part.delta", partID=part_id, field="text", delta="half")
    (part,) = [p for p in end_of(follow(turn.end("aborted"))).result.parts if p.type == "text"]
    assert isinstance(part, TextPart)
    assert (part.text, part.closed) == ("half", False)


def test_nothing_comes_after_the_end() -> None:
    reader = TurnReader(SESSION, PROMPT)
    turn = a_turn().end()
    assert reader.ended is None
    feed(reader, turn.events)
    assert reader.ended is not None
    assert feed(reader, turn.events) == []
    assert reader.end("error") is reader.ended


def test_what_comes_twice_without_a_number_counts_once() -> None:
    turn = a_turn().ask("per_1").replied("per_1", "once").file().step().tool().write("x")
    again = turn.events[:]
    reader = TurnReader(SESSION, PROMPT)
    events = feed(reader, turn.events, plain=True) + feed(reader, again, plain=True)
    for kind in (TurnStarted, PermissionAsked, PermissionReplied, Attachment, StepFinished):
        assert len(of(events, kind)) == 1
    assert len(of(events, ToolStart)) == len(of(events, ToolComplete)) == 1
    assert text_of(events) == "x"


def test_the_history_of_other_turns_does_not_count() -> None:
    reader = TurnReader(SESSION, PROMPT)
    before = a_rich_turn(SESSION, "msg_0").messages()
    events = reader.feed_history(before + a_turn().write("mine").messages())
    assert text_of(events) == "mine"
    assert reader.feed(WireEvent("turn.started", {"messageID": "msg_2"}, 9, SESSION)) == []


def test_an_event_that_breaks_the_protocol_raises() -> None:
    with pytest.raises(KeyError):
        TurnReader(SESSION, PROMPT).feed(WireEvent("message.updated", {}, 1, SESSION))


# -- however often the connection breaks ---------------------------------------------------------


def essence(events: list[AgentEvent]) -> dict[str, Any]:
    """What must be the same however the events came."""
    return {
        "text": text_of(events),
        "reasoning": text_of(events, ReasoningDelta),
        "tools": [type(e) for e in of(events, ToolStart, ToolComplete, ToolFailed)],
        "once": of(
            events, TurnStarted, PermissionAsked, PermissionReplied, Attachment, StepFinished
        ),
        "result": end_of(events).result,
    }


@st.composite
def turns(draw: st.DrawFn) -> TurnEvents:
    turn = TurnEvents(SESSION, PROMPT).begin()
    words = st.lists(st.text(min_size=1, max_size=5), max_size=4)
    for index in range(draw(st.integers(0, 5))):
        match draw(st.integers(0, 5)):
            case 0 | 1:
                turn.write(*draw(words))
            case 2:
                turn.write(*draw(words), kind="reasoning")
            case 3:
                turn.tool(output=tuple(draw(words)))
            case 4:
                turn.ask(f"per_{index}").replied(f"per_{index}", "once")
            case _:
                turn.file().step()
    return turn.end()


@settings(max_examples=300, deadline=None)
@given(turns(), st.data())
def test_closed_parts_in_place_of_their_deltas(turn: TurnEvents, data: st.DataObject) -> None:
    """A reader that missed some deltas gets the closed part: the missing suffix, once."""
    missed: set[int] = set()
    if turn.merged:
        missed = data.draw(st.sets(st.sampled_from(sorted(turn.merged))))
    # What is missed of a part is its tail: the reader was away from some moment on.
    kept, gone = [], set()
    for index, event in enumerate(turn.events):
        part = event["properties"].get("partID")
        if index in missed:
            gone.add(part)
        if index not in turn.merged or part not in gone:
            kept.append(event)
    assert essence(feed(TurnReader(SESSION, PROMPT), kept)) == essence(follow(turn))


@settings(max_examples=200, deadline=None)
@given(turns(), st.data())
def test_the_history_adds_what_is_missing_and_nothing_twice(
    turn: TurnEvents, data: st.DataObject
) -> None:
    """An unnumbered stream that broke: part of the events, the history, and the end of them."""
    lost_from = data.draw(st.integers(5, len(turn.events) - 3))
    lost_to = data.draw(st.integers(lost_from, len(turn.events) - 3))
    reader = TurnReader(SESSION, PROMPT)
    so_far = TurnEvents(SESSION, PROMPT)
    so_far.events = turn.events[:lost_to]
    events = feed(reader, turn.events[:lost_from], plain=True)
    reader.mark_gap()
    events += reader.feed_history(so_far.messages())
    events += feed(reader, turn.events[lost_to:], plain=True)
    assert text_of(events) == turn.text
    assert text_of(events, ReasoningDelta) == turn.reasoning
    assert len(of(events, ToolStart)) == len(of(events, ToolComplete))
    assert end_of(events).result.text == turn.text


# -- servers without `turn.ended` ----------------------------------------------------------------


def plain(turn: TurnEvents) -> list[Event]:
    return [event for event in turn.events if not event["type"].startswith("turn.")]


def test_idle_ends_a_turn_on_a_plain_server() -> None:
    turn = a_turn()
    turn.idle()  # of an abort before this turn
    events = feed(TurnReader(SESSION, PROMPT), plain(turn.write("text").end()), plain=True)
    assert end_of(events).outcome == "completed"
    assert end_of(events).result.text == "text"


def test_idle_does_not_end_a_numbered_turn() -> None:
    turn = a_turn().write("text").idle()
    assert not of(follow(turn), TurnEnded)


def test_an_abort_on_a_plain_server() -> None:
    turn = a_turn()
    error = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
    turn.add("session.error", error=error)
    turn.idle()
    turn.end("aborted", error)
    events = feed(TurnReader(SESSION, PROMPT), plain(turn), plain=True)
    assert end_of(events).outcome == "aborted"
    assert StatusChanged("error", "Aborted") in events


def test_an_error_before_the_answer_on_a_plain_server() -> None:
    turn = TurnEvents(SESSION, PROMPT)
    turn.add("message.updated", info=turn._info(PROMPT, "user"))
    turn.add("session.error", error={"name": "UnknownError", "data": {"message": "no model"}})
    events = feed(TurnReader(SESSION, PROMPT), turn.idle().events, plain=True)
    assert end_of(events).result.error == WireError(
        "UnknownError", "no model", {"message": "no model"}
    )


def test_a_turn_that_the_server_lost() -> None:
    reader = TurnReader(SESSION, PROMPT)
    feed(reader, a_turn().write("half").events)
    ended = reader.end_quietly()
    assert (ended.outcome, ended.result.text) == ("error", "half")
    assert ended.result.error is not None and ended.result.error.name == "TurnLostError"


def test_parts_are_what_they_are() -> None:
    result = end_of(follow(a_rich_turn(SESSION, PROMPT))).result
    assert any(isinstance(part, ToolPart) for part in result.parts)
    assert any(isinstance(part, FilePart) for part in result.parts)


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        ("stop", None),
        ("length", "MessageOutputLengthError"),
        ("content-filter", "ContentFilterError"),
    ],
)
def test_why_the_model_stopped(finish: str, error: str | None) -> None:
    """A server without `turn.ended` does not call a reply that was cut off an error."""
    reader = TurnReader(SESSION, PROMPT)
    info = {
        "id": "msg_2",
        "sessionID": SESSION,
        "role": "assistant",
        "parentID": PROMPT,
        "finish": finish,
        "time": {"created": 1, "completed": 2},
    }
    reader.feed_history([{"info": info, "parts": []}])
    end = reader.end_quietly()
    assert end.result.finish_reason == finish
    assert (end.result.error.name if end.result.error else None) == error
    assert end.outcome == ("error" if error else "completed")
