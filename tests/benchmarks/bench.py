"""The place where figures are measured: a kernel, its front end, an engine and a scripted model."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from agent_magics.client import Client
from tests.support.engine_home import EngineHome
from tests.support.kernel import FrontEnd
from tests.support.scripted_model import ScriptedModel


@dataclass(frozen=True)
class Click:
    """A click on a permission button: when, and the message that told the kernel."""

    request_id: str
    at: float
    msg_id: str


class MeasuringFrontEnd(FrontEnd):
    """
    A front end that answers widgets as the real one does and stamps what it gets.

    Every message has `at` (`time.perf_counter()` when it was there) and `size`, the bytes of all
    its frames: what goes on to the browser.
    """

    clicks: list[Click]

    def __init__(self, *arguments: Any) -> None:
        self.clicks = []
        super().__init__(*arguments)

    def _receive(self) -> None:
        sockets = {
            getattr(self.client, f"{name}_channel").socket: name
            for name in ("iopub", "shell", "control", "stdin")
        }
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        for socket, _ in poller.poll(20):
            while True:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._take(sockets[socket], frames, time.perf_counter())

    def _take(self, channel: str, frames: list[bytes], at: float) -> None:
        session = self.client.session
        _, rest = session.feed_identities(frames)
        message = session.deserialize(rest)
        size = sum(map(len, frames))
        self.messages.append({**message, "channel": channel, "at": at, "size": size})
        self._react(message)

    def _react(self, message: dict[str, Any]) -> None:
        super()._react(message)
        content = message["content"]
        if message["msg_type"] == "comm_open" and "_esm" in content["data"].get("state", {}):
            self.custom(content["comm_id"], {"kind": "ready"})
        elif message["msg_type"] == "comm_msg":
            drawn = content["data"].get("content") or {}
            for op in drawn.get("ops", ()):
                if op["op"] == "ask" and op["id"] not in {
                    click.request_id for click in self.clicks
                }:
                    self._allow(content["comm_id"], op["id"])

    def _allow(self, comm_id: str, request_id: str) -> None:
        """Click "Allow once" as soon as the card is there."""
        at = time.perf_counter()
        reply = {"kind": "reply", "id": request_id, "reply": "once", "message": None}
        self.clicks.append(Click(request_id, at, self.custom(comm_id, reply)))

    def taken_up(self, msg_id: str) -> float:
        """When the kernel announced that it handles this message."""
        return float(self.of(msg_id, "status")[0]["at"])

    def timed(self, code: str, *, timeout: float = 120.0) -> tuple[float, list[dict[str, Any]]]:
        """Run a cell: when it was sent, and all messages until it was done."""
        first = len(self.messages)
        start = time.perf_counter()
        msg_id = self.execute(code)
        self.until(lambda: self.is_done(msg_id), timeout, code[:60])
        assert not self.of(msg_id, "error"), self.text(msg_id)
        return start, self.messages[first:]


@dataclass
class Wire:
    """Reads a session's numbered events on the side, as the kernel's client does."""

    frames: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def at(self, wanted: Callable[[dict[str, Any]], Any]) -> list[float]:
        """When the events that satisfy `wanted` came."""
        return [at for at, event in list(self.frames) if wanted(event)]


@dataclass
class Bench:
    front: MeasuringFrontEnd
    model: ScriptedModel
    home: EngineHome

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A second reader of the events of the kernel's session, in this process."""
        session_id = self.front.run("print(agent_magics.current_session().id)").strip()
        wire = Wire()
        with Client(state_dir=self.home.state) as client:
            events = client.session(session_id).events()

            def read() -> None:
                rest = b""
                for chunk in events:
                    at = time.perf_counter()
                    *frames, rest = (rest + chunk).split(b"\n\n")
                    wire.frames += [(at, event) for frame in frames for event in _events(frame)]

            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            yield wire
            events.close()
            thread.join(5)


@contextmanager
def bench(scenarios: dict[str, Any]) -> Iterator[Bench]:
    """A warm kernel: the extension is loaded and one turn has run."""
    warm = {"match": "^warm up$", "turns": [{"do": [{"text": "warm"}]}]}
    with (
        EngineHome() as home,
        ScriptedModel({"warm": warm, **scenarios}) as model,
        tempfile.TemporaryDirectory() as directory,
    ):
        front = MeasuringFrontEnd(
            sys.executable, Path(directory), {**home.environ, **model.environ}
        )
        try:
            front.run("%load_ext agent_magics\nimport agent_magics")
            front.run("%%agent\nwarm up")
            front.run("%%agent\nwarm up")
            yield Bench(front, model, home)
        finally:
            front.close()


def _events(frame: bytes) -> Iterator[dict[str, Any]]:
    """The event in one frame of the stream; comments have none."""
    for line in frame.splitlines():
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


def content_of(message: dict[str, Any]) -> str:
    """A message's content as text, to look for something in it."""
    return json.dumps(message["content"], ensure_ascii=False)
