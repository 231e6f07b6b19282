"""One frame becomes one `WireEvent`, whoever sent it."""

from __future__ import annotations

from agent_magics.wire import WireEvent


def test_numbered_event() -> None:
    event = WireEvent.from_json(
        {
            "id": "evt_1",
            "type": "todo.updated",
            "properties": {"sessionID": "ses_1", "todos": []},
            "seq": 7,
            "sessionID": "ses_1",
            "time": 1700000000000,
        }
    )
    assert (event.seq, event.session_id, event.time, event.id) == (
        7,
        "ses_1",
        1700000000000,
        "evt_1",
    )


def test_plain_opencode_event_has_no_number_and_finds_its_session() -> None:
    delta = WireEvent.from_json(
        {"id": "evt_2", "type": "message.part.delta", "properties": {"sessionID": "ses_1"}}
    )
    part = WireEvent.from_json(
        {"type": "message.part.updated", "properties": {"part": {"sessionID": "ses_2"}}}
    )
    info = WireEvent.from_json(
        {"type": "message.updated", "properties": {"info": {"sessionID": "ses_3"}}}
    )
    bare = WireEvent.from_json({"type": "server.connected"})
    assert delta.seq is None
    assert [e.session_id for e in (delta, part, info, bare)] == ["ses_1", "ses_2", "ses_3", ""]
