"""The events of one turn, as the engine words them."""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]

TOKENS = {"input": 10, "output": 5, "reasoning": 1, "cache": {"read": 2, "write": 0}}


class TurnEvents:
    """
    Builds the events of one turn, in the engine's order: `begin()`, parts, `end()`.

    `events` are `{type, properties}`, not numbered. `deltas_of` tells which events a closed part
    stands for: the ones that an engine forgets once the part is closed.
    """

    def __init__(self, session_id: str, message_id: str, prompt: str = "hello") -> None:
        self.session_id = session_id
        self.message_id = message_id
        self.answer_id = f"{message_id}_answer"
        self.prompt = prompt
        self.events: list[Event] = []
        self.merged: set[int] = set()
        self.text = ""
        self.reasoning = ""
        self._parts = 0

    def add(self, type: str, **properties: Any) -> None:
        self.events.append(
            {"type": type, "properties": {"sessionID": self.session_id, **properties}}
        )

    def begin(self) -> TurnEvents:
        self.add("message.updated", info=self._info(self.message_id, "user"))
        self.part("text", message_id=self.message_id, text=self.prompt)
        self.add("turn.started", messageID=self.message_id)
        self.add("session.status", status={"type": "busy"})
        self.add("message.updated", info=self._answer())
        return self

    def part(self, type: str, *, message_id: str = "", part_id: str = "", **values: Any) -> str:
        part_id = part_id or self._next_part()
        self.add(
            "message.part.updated",
            part={
                "id": part_id,
                "messageID": message_id or self.answer_id,
                "sessionID": self.session_id,
                "type": type,
                **values,
            },
        )
        return part_id

    def write(self, *deltas: str, kind: str = "text") -> TurnEvents:
        """A text or reasoning part that arrives in `deltas`."""
        part_id = self.part(kind, text="", time={"start": 1})
        first = len(self.events)
        for delta in deltas:
            self.add(
                "message.part.delta",
                messageID=self.answer_id,
                partID=part_id,
                field="text",
                delta=delta,
            )
        self.merged.update(range(first, len(self.events)))
        whole = "".join(deltas)
        self.part(kind, part_id=part_id, text=whole, time={"start": 1, "end": 2})
        if kind == "text":
            self.text += whole
        else:
            self.reasoning += whole
        return self

    def tool(
        self,
        command: str = "ls",
        output: tuple[str, ...] = ("a\n", "b\n"),
        error: str | None = None,
    ) -> TurnEvents:
        part_id = self._next_part()
        call = {"tool": "bash", "callID": f"call_{part_id}"}

        def state(status: str, **values: Any) -> None:
            self.part("tool", part_id=part_id, **call, state={"status": status, **values})

        state("pending", input={}, raw="")
        arguments = {"command": command}
        state("pending", input=arguments)
        state("running", input=arguments, time={"start": 1})
        first = len(self.events)
        for chunk in output:
            self.add(
                "tool.output",
                messageID=self.answer_id,
                partID=part_id,
                callID=call["callID"],
                stream="stdout",
                delta=chunk,
            )
        self.merged.update(range(first, len(self.events)))
        times = {"start": 1, "end": 2}
        if error is None:
            state("completed", input=arguments, output="".join(output), title=command, time=times)
        else:
            state("error", input=arguments, error=error, time=times)
        return self

    def ask(self, request_id: str, command: str = "ls") -> TurnEvents:
        self.add(
            "permission.asked",
            id=request_id,
            permission="bash",
            patterns=[command],
            always=[f"{command} *"],
            metadata={"command": command},
            tool={"messageID": self.answer_id, "callID": "call_1"},
        )
        return self

    def replied(self, request_id: str, reply: str) -> TurnEvents:
        self.add("permission.replied", requestID=request_id, reply=reply)
        return self

    def todos(self, *contents: str) -> TurnEvents:
        items = [{"content": c, "status": "pending", "priority": "high"} for c in contents]
        self.add("todo.updated", todos=items)
        return self

    def file(self, filename: str = "chart.png") -> TurnEvents:
        url = f"file:///workspace/{filename}"
        self.part("file", mime="image/png", filename=filename, url=url)
        return self

    def step(self) -> TurnEvents:
        self.part("step-finish", reason="stop", tokens=TOKENS, cost=0.5)
        return self

    def end(self, outcome: str = "completed", error: dict[str, Any] | None = None) -> TurnEvents:
        extra = {"error": error} if error else {}
        answer = self._answer(time={"created": 1, "completed": 2}, tokens=TOKENS, cost=0.5)
        self.add("message.updated", info={**answer, **extra})
        self.add("turn.ended", messageID=self.message_id, outcome=outcome, **extra)
        self.idle()
        return self

    def idle(self) -> TurnEvents:
        self.add("session.status", status={"type": "idle"})
        self.add("session.idle")
        return self

    def messages(self) -> list[dict[str, Any]]:
        """The history that these events leave behind."""
        messages: dict[str, dict[str, Any]] = {}
        for event in self.events:
            properties = event["properties"]
            if event["type"] == "message.updated":
                info = properties["info"]
                messages.setdefault(info["id"], {"info": {}, "parts": {}})["info"] = info
            elif event["type"] == "message.part.updated":
                part = properties["part"]
                messages[part["messageID"]]["parts"][part["id"]] = part
        return [
            {"info": message["info"], "parts": list(message["parts"].values())}
            for message in messages.values()
        ]

    def _next_part(self) -> str:
        self._parts += 1
        return f"prt_{self.message_id}_{self._parts:03}"

    def _answer(self, **values: Any) -> dict[str, Any]:
        return self._info(self.answer_id, "assistant", parentID=self.message_id, **values)

    def _info(self, id: str, role: str, **values: Any) -> dict[str, Any]:
        base = {"id": id, "sessionID": self.session_id, "role": role, "time": {"created": 1}}
        return {**base, **values}


def a_rich_turn(session_id: str, message_id: str) -> TurnEvents:
    """One of everything, with characters that take several bytes."""
    turn = TurnEvents(session_id, message_id).begin()
    turn.write("Let me ", "think", kind="reasoning")
    turn.write("Grüße ", "an 世界", " 🎉\r\n", "\N{LINE SEPARATOR}end")
    turn.ask("per_1").replied("per_1", "once").tool().todos("one", "two").file().step()
    return turn.write("Done", ".").step().end()


def numbered(events: list[Event], session_id: str, first: int = 1) -> list[Event]:
    """The events with the engine's envelope."""
    return [
        {
            "id": f"evt_{number:06}",
            "seq": number,
            "time": 1_700_000_000_000 + number,
            "sessionID": session_id,
            **event,
        }
        for number, event in enumerate(events, first)
    ]
