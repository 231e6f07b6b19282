"""
Kill an engine at random moments, again and again, and check what it has told the world.

    python -m tests.support.kill_rounds DIRECTORY ROUNDS SEED

One process per engine, forked after the imports: it opens the data that its predecessors left,
checks it against the journal of all that was acknowledged so far, goes on working, and reports what
it acknowledges until it is killed. Prints the number of acknowledged prompts and of seen events;
the exit code is 1 after a check that failed, whose traceback is on stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo

from agent_magics.engine._errors import BadRequest
from agent_magics.engine._messages import _was_run
from agent_magics.engine._prompts import NewSession, Prompt
from agent_magics.engine._sessions import Session, add_tokens, no_tokens
from agent_magics.wire import MessageJSON
from tests.support.engine_harness import Harness, Step, call, engine_in, say, think
from tests.support.legal_history import check_legal

SESSIONS = 3
GENERATION = 20
"""Kills in the life of one database."""
MOST_REPORTS = 150
"""Before an engine is killed."""

Report = dict[str, Any]


class Journal:
    """All that was acknowledged, by whichever engine."""

    def __init__(self) -> None:
        self.prompts: dict[str, str] = {}
        self.events: dict[tuple[str, int], tuple[str, str]] = {}

    def add(self, report: Report) -> None:
        if "prompt" in report:
            self.prompts[report["prompt"]] = report["session"]
        else:
            seen = (report["id"], report["type"])
            before = self.events.setdefault((report["stream"], report["seq"]), seen)
            assert before == seen, f"the number {report['seq']} was given to two events"


def main() -> int:
    directory, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance, prompts, events = random.Random(seed), 0, 0
    for first in range(0, rounds, GENERATION):
        journal, home = Journal(), directory / str(first)
        home.mkdir()
        for number in range(first, min(first + GENERATION, rounds) + 1):
            last = number == min(first + GENERATION, rounds)
            if not one_round(home, journal, chance, last=last):
                print(f"round {number} of seed {seed} failed", file=sys.stderr)
                return 1
        prompts += len(journal.prompts)
        events += len(journal.events)
    print(prompts, events)
    return 0


def one_round(directory: Path, journal: Journal, chance: random.Random, *, last: bool) -> bool:
    """Fork an engine, and kill it when it has reported enough; the last one may end by itself."""
    reports, writing = os.pipe()
    seed, enough = chance.random(), chance.randrange(1, MOST_REPORTS)
    child = os.fork()
    if child == 0:
        os.close(reports)
        os._exit(_engine(directory, journal, writing, seed, last))
    os.close(writing)
    seen = 0
    with os.fdopen(reports) as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            journal.add(json.loads(line))
            seen += 1
            if seen == enough and not last:
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return status == 0 if last else killed


def _engine(directory: Path, journal: Journal, writing: int, seed: float, last: bool) -> int:
    try:
        asyncio.run(_check_and_work(directory, journal, writing, seed, last))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


async def _check_and_work(
    directory: Path, journal: Journal, writing: int, seed: float, last: bool
) -> None:
    chance = random.Random(seed)
    async with engine_in(directory) as harness:
        await _check(harness, journal)
        if last:
            return

        def report(**values: Any) -> None:
            os.write(writing, json.dumps(values).encode() + b"\n")

        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(harness, report))
            group.create_task(_answer(harness))
            sessions = list(harness.engine.sessions)
            while len(sessions) < SESSIONS:
                sessions.append(await harness.engine.create_session(NewSession()))
            for session in sessions:
                group.create_task(_work(harness, session, chance, report))


async def _work(harness: Harness, session: Session, chance: random.Random, report: Any) -> None:
    while True:
        harness.model.steps.append(_step(chance))
        prompt = Prompt([{"type": "text", "text": f"prompt {chance.random()}"}])
        message_id = await harness.engine.prompt(session, prompt)
        report(prompt=message_id, session=session.id)
        if chance.random() < 0.1:
            await harness.engine.abort(session)
        if session.turn is not None:
            await session.turn.done.wait()
        if chance.random() < 0.1:
            with suppress(BadRequest):  # nothing was said: the only turn was aborted at once
                await harness.engine.summarize(session)


def _step(chance: random.Random) -> Step:
    words = [f"word{n} " for n in range(chance.randrange(1, 30))]
    calls: list[tuple[str, dict[str, Any] | str]] = [
        ("write", {"filePath": f"f{chance.randrange(5)}.txt", "content": str(chance.random())}),
        ("todowrite", {"todos": [{"content": "a", "status": "pending", "priority": "high"}]}),
        ("read", {"filePath": "f1.txt"}),
        ("webfetch" if chance.random() < 0.2 else "bash", {"command": "echo hi", "url": ""}),
        ("read", "{broken"),
    ]
    chosen = call(*chance.sample(calls, chance.randrange(1, 4)), text="Let me see. ")
    plain = chance.choice([say(*words), think("Let me think.", "Thought."), chosen, chosen])

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        async for item in plain(messages, info):
            yield item
            await asyncio.sleep(0)

    return step


async def _answer(harness: Harness) -> None:
    """Allow what is asked."""
    subscription = harness.engine.log.subscribe()
    async for batch in subscription:
        for event in batch:
            body = json.loads(event.body)
            properties = body["properties"]
            if body["type"] == "permission.asked":
                pending = {p["id"] for p in harness.engine.permissions.pending(None)}
                if properties["id"] in pending:
                    harness.engine.permissions.reply(properties["id"], "once", None)


async def _watch(harness: Harness, report: Any) -> None:
    async for batch in harness.engine.log.subscribe():
        for event in batch:
            body = json.loads(event.body)
            report(stream=event.stream, seq=event.seq, id=body["id"], type=body["type"])


async def _check(harness: Harness, journal: Journal) -> None:
    """What is stored against what was acknowledged."""
    query = harness.engine.store.query
    messages = {row[0] for row in query("SELECT id FROM message")}
    lost = journal.prompts.keys() - messages
    assert not lost, f"acknowledged prompts are lost: {lost}"
    stored: dict[tuple[str, int], str] = {}
    states: dict[str, int] = {}
    ended: Counter[str] = Counter()
    for stream, seq, text in query("SELECT stream, seq, body FROM event ORDER BY position"):
        body = json.loads(text)
        stored[stream, seq] = body["id"]
        if body["type"] == "session.updated":
            states[stream] = seq
        elif body["type"] == "turn.ended":
            ended[body["properties"]["messageID"]] += 1
    wrong = {message: ended[message] for message in journal.prompts if ended[message] != 1}
    assert not wrong, f"turns that did not end once: {wrong}"
    for key, (event_id, kind) in journal.events.items():
        if key not in stored and kind == "session.updated":
            assert states.get(key[0], 0) > key[1], "a lost state of a session"
        elif key not in stored:
            assert kind in ("message.part.delta", "tool.output"), f"a lost {kind}"
        else:
            assert stored[key] == event_id, f"the number {key} was given again"
    for (data,) in query("SELECT data FROM part"):
        part = json.loads(data)
        if part["type"] == "tool":
            assert part["state"]["status"] in ("completed", "error"), part
        elif part["type"] in ("text", "reasoning"):
            assert "end" in part.get("time", {"end": 0}), part
    assert harness.engine.permissions.pending(None) == []
    for session in harness.engine.sessions:
        assert session.turn is None
        if history := await harness.engine._services.history.load(session.id):
            check_legal(history)
            _check_failures_are_told(history, await harness.engine.messages.history(session.id))
        counted = session.metrics()
        recorded = recorded_metrics(await harness.engine.messages.history(session.id))
        assert {name: counted[name] for name in recorded} == recorded  # type: ignore[literal-required]


def recorded_metrics(messages: list[MessageJSON]) -> dict[str, Any]:
    """What the session's metrics must be, as its messages say."""
    steps = 0
    calls: Counter[str] = Counter()
    tokens = no_tokens()
    cost: float | None = 0.0
    for message in messages:
        if message["info"]["role"] == "assistant":
            add_tokens(tokens, message["info"]["tokens"])
            spent = message["info"]["cost"]
            cost = None if cost is None or spent is None else cost + spent
        for part in message["parts"]:
            steps += part["type"] == "step-finish"
            if part["type"] == "tool" and _was_run(part):
                calls[part["tool"]] += 1
    return {
        "messages": len(messages),
        "steps": steps,
        "toolCalls": calls.total(),
        "toolUsage": dict(calls),
        "tokens": tokens,
        "cost": cost,
    }


def _check_failures_are_told(history: list[ModelMessage], messages: list[MessageJSON]) -> None:
    """No call that failed is told to the model as one that succeeded."""
    failed = {
        part["callID"]
        for message in messages
        for part in message["parts"]
        if part["type"] == "tool" and part["state"]["status"] == "error"
    }
    succeeded = {
        part["callID"]
        for message in messages
        for part in message["parts"]
        if part["type"] == "tool" and part["state"]["status"] == "completed"
    }
    for message in history:
        for part in message.parts:
            if isinstance(part, ToolReturnPart) and part.tool_call_id in failed - succeeded:
                assert part.outcome in ("failed", "retried"), part


if __name__ == "__main__":
    sys.exit(main())
