"""Streams over a real server on a Unix socket: events with resume, live output, leases."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.engine_harness import PATIENCE, call, engine_in, eventually, hang, say, served

RULE = [{"permission": "bash", "pattern": "*", "action": "allow"}]


class Frame(dict[str, Any]):
    """The JSON of a frame, with its `event` and `id` as attributes."""

    event: str
    number: int | None


async def frames_of(response: httpx.Response) -> AsyncIterator[Frame]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        elif fields:
            frame = Frame(json.loads(fields["data"]))
            frame.event = fields["event"]
            frame.number = int(fields["id"]) if "id" in fields else None
            fields = {}
            yield frame


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, path: str, method: str = "GET", **options: Any
) -> AsyncIterator[AsyncIterator[Frame]]:
    async with asyncio.timeout(PATIENCE), client.stream(method, path, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield frames_of(response)


async def read_until(frames: AsyncIterator[Frame], type: str) -> list[Frame]:
    found = []
    async for frame in frames:
        found.append(frame)
        if frame["type"] == type:
            return found
    raise AssertionError(f"the stream ended before {type}")


async def post(client: httpx.AsyncClient, path: str, body: Any) -> Any:
    response = await client.post(path, json=body)
    assert response.is_success, response.text
    return response.json() if response.content else None


def prompt(text: str = "go") -> dict[str, Any]:
    return {"parts": [{"type": "text", "text": text}]}


async def test_a_turn_on_the_sessions_stream(tmp_path: Path) -> None:
    async with (
        engine_in(tmp_path, [say("a", "b\nc")]) as harness,
        served(harness, tmp_path) as http,
    ):
        session = (await post(http, "/session", {}))["id"]
        other = (await post(http, "/session", {}))["id"]
        async with stream(http, f"/session/{session}/event") as frames:
            connected = await anext(frames)
            assert connected["type"] == "server.connected" and connected.number is None
            assert "seq" not in connected
            await http.patch(f"/session/{other}", json={"title": "not for this stream"})
            await post(http, f"/session/{session}/prompt_async", prompt())
            found = await read_until(frames, "session.idle")
        assert {f.event for f in found} == {"message"}
        assert {f["sessionID"] for f in found} == {session}
        numbers = [f.number for f in found]
        assert numbers == [f["seq"] for f in found]
        assert numbers == list(range(numbers[0], numbers[0] + len(found)))
        assert all(f["id"].startswith("evt_") and f["time"] for f in found)


async def test_events_of_all_sessions_count_together(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        for _ in range(3):
            await post(http, "/session", {})
        async with stream(http, "/event?lastEventId=0") as frames:
            found = [await anext(frames) for _ in range(4)][1:]
        assert [f.number for f in found] == [1, 2, 3]
        async with stream(http, "/global/event?lastEventId=0") as frames:
            wrapped = [await anext(frames) for _ in range(4)][1:]
        assert [f["payload"] for f in wrapped] == found
        assert wrapped[0]["directory"] == "/workspace"


async def test_resuming_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """A reader that is cut off after every few frames ends up with the same as one that isn't."""
    words = [f"w{i} " for i in range(400)]

    async def slowly(*_: Any) -> AsyncIterator[str]:
        for word in words:
            yield word
            await asyncio.sleep(0.001)

    steps = [call(("bash", {"command": "seq 50"}), text="First. "), slowly]
    async with engine_in(tmp_path, steps) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {"permission": RULE}))["id"]
        path, last = f"/session/{session}/event", 0
        await post(http, f"/session/{session}/prompt_async", prompt())
        seen: list[Frame] = []
        cuts = 0
        while not seen or seen[-1]["type"] != "session.idle":
            headers = {"Last-Event-ID": str(last)}
            async with stream(http, path, headers=headers) as frames:
                assert (await anext(frames))["type"] == "server.connected"
                for _ in range(17):
                    seen.append(await anext(frames))
                    last = seen[-1].number or 0
                    if seen[-1]["type"] == "session.idle":
                        break
            cuts += 1
        assert cuts > 10
        numbers = [f.number or 0 for f in seen]
        assert numbers == sorted(set(numbers))
        assert effect(seen) == effect_of_events(harness.recorder.events)
        assert "".join(words) in effect(seen)[1]


def effect(frames: list[Frame]) -> list[str]:
    return effect_of_events(list(frames))


def effect_of_events(events: list[Any]) -> list[str]:
    """The texts that a reader of these events has in the end."""
    texts: dict[str, str] = {}
    for event in events:
        properties = event["properties"]
        if event["type"] == "message.part.updated" and properties["part"]["type"] == "text":
            texts[properties["part"]["id"]] = properties["part"]["text"]
        elif event["type"] == "message.part.delta" and properties["field"] == "text":
            texts[properties["partID"]] += properties["delta"]
    return [text for text in texts.values() if text != "go"]


async def test_a_reader_that_stops_reading_costs_nothing_and_catches_up(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang("x")]) as harness, served(harness, tmp_path) as http:
        session = await harness.session()
        async with stream(http, f"/session/{session.id}/event?lastEventId=0") as frames:
            await read_until(frames, "session.created")
            for i in range(30_000):
                harness.engine.log.publish(session.id, "test", {"i": i, "text": "x" * 200})
                if i % 100 == 0:
                    await asyncio.sleep(0)
            await harness.engine.store.flushed()
            assert len(harness.engine.log._ring) <= 8192
            harness.engine.log.publish(session.id, "the.end", {})
            found = [f for f in await read_until(frames, "the.end") if f["type"] == "test"]
        assert [f["properties"]["i"] for f in found] == list(range(30_000))


# Commands


async def test_exec_live(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {}))["id"]
        body = {"command": "echo out; echo err >&2; until [ -e go ]; do sleep 0.02; done; exit 3"}
        headers = {"Accept": "text/event-stream"}
        async with stream(
            http, f"/session/{session}/exec", "POST", json=body, headers=headers
        ) as frames:
            started, *first = [await anext(frames) for _ in range(3)]
            assert started.event == "started" and started["id"].startswith("exe_")
            assert sorted((f.event, base64.b64decode(f["data"])) for f in first) == [
                ("stderr", b"err\n"),
                ("stdout", b"out\n"),
            ]
            # The output came while the command was running.
            await http.put(f"/session/{session}/fs?path=go", content=b"")
            last = await anext(frames)
            assert last.event == "exit"
            assert last == {"exitCode": 3, "timedOut": False, "truncated": False}
            assert [f async for f in frames] == []


async def test_an_interrupted_command_is_shown_to_its_end(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {}))["id"]
        other = (await post(http, "/session", {}))["id"]
        path = f"/session/{session}/exec"
        body = {"command": "trap 'echo bye; exit 9' INT; echo up; while :; do sleep 0.02; done"}
        headers = {"Accept": "text/event-stream"}
        async with asyncio.timeout(PATIENCE):
            async with stream(http, path, "POST", json=body, headers=headers) as frames:
                at = f"exec/{(await anext(frames))['id']}/interrupt"
                assert base64.b64decode((await anext(frames))["data"]) == b"up\n"
                assert await post(http, f"/session/{other}/{at}", {}) is False
                assert await post(http, f"/session/{session}/{at}", {"kill": False}) is True
                last = [frame async for frame in frames]
        assert base64.b64decode(last[0]["data"]) == b"bye\n"
        assert last[1:] == [{"exitCode": 9, "timedOut": False, "truncated": False}]
        assert await post(http, f"/session/{session}/{at}", {}) is False


async def test_leaving_a_live_command_ends_it(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {}))["id"]
        body = {"command": "echo $$; sleep 60"}
        headers = {"Accept": "text/event-stream"}
        async with stream(
            http, f"/session/{session}/exec", "POST", json=body, headers=headers
        ) as frames:
            await anext(frames)
            pid = base64.b64decode((await anext(frames))["data"]).decode().strip()
            assert Path(f"/proc/{pid}").exists()
        await eventually(lambda: not Path(f"/proc/{pid}").exists())


async def test_a_lot_of_live_output_is_all_there(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {}))["id"]
        body = {"command": "seq 300000"}
        headers = {"Accept": "text/event-stream"}
        async with stream(
            http, f"/session/{session}/exec", "POST", json=body, headers=headers
        ) as frames:
            found = [frame async for frame in frames]
        data = b"".join(base64.b64decode(f["data"]) for f in found[1:-1])
        assert found[-1]["truncated"] or data == b"".join(b"%d\n" % i for i in range(1, 300001))


async def test_a_live_command_that_fails_to_run_says_so(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        session = (await post(http, "/session", {}))["id"]
        harness.sandboxes[0].gone_once = True
        headers = {"Accept": "text/event-stream"}
        async with stream(
            http, f"/session/{session}/exec", "POST", json={"command": "x"}, headers=headers
        ) as frames:
            _, error = [frame async for frame in frames]
        assert error.event == "error" and error["name"] == "SandboxGoneError"


# Presence


async def test_open_streams_hold_the_engine(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness, served(harness, tmp_path) as http:
        presence = harness.presence
        for path in ("/lease", "/event"):
            async with asyncio.timeout(PATIENCE), http.stream("GET", path) as response:
                assert response.status_code == 200
                await anext(response.aiter_bytes())
                assert presence.alone_for == 0
            await eventually(lambda: presence.alone_for > 0)


async def test_leases_end_when_the_engine_leaves(tmp_path: Path) -> None:
    async with (
        engine_in(tmp_path) as harness,
        served(harness, tmp_path) as http,
        asyncio.timeout(PATIENCE),
        http.stream("GET", "/lease") as response,
    ):
        body = response.aiter_bytes()
        await anext(body)
        harness.presence.closing.set()
        assert [chunk async for chunk in body] == []
