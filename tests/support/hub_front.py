"""The JupyterLab extension's part, played through jupyter_client: requests, states and results."""

from __future__ import annotations

import itertools
from typing import Any

from agent_magics.notebook._hub._door import REQUEST
from agent_magics.notebook._hub._hub import TARGET
from tests.support.kernel import FrontEnd


class HubFront:
    """One page, whose name is `client`; `state` is the last one that was sent to it."""

    def __init__(self, kernel: FrontEnd, client: str = "page") -> None:
        self.kernel = kernel
        self.client = client
        self._numbers = itertools.count(1)

    def send(self, action: str, args: Any = None, *pieces: bytes) -> tuple[str, dict[str, Any]]:
        """The request's id and the kernel's reply on the control channel."""
        id = f"{self.client}-{next(self._numbers)}"
        content = {"client": self.client, "id": id, "action": action, "args": args or {}}
        msg_id = self.kernel.send(REQUEST, content, buffers=list(pieces), channel="control")
        reply = self.kernel.until(lambda: self.kernel.reply(msg_id), what=f"reply to {action}")
        return id, reply["content"]

    def attach(self) -> None:
        _, reply = self.send("attach")
        assert reply == {"status": "ok", "protocol": 1}
        self.kernel.until(lambda: self.comm_id, what="comm")
        self.until(status=None)

    @property
    def comm_id(self) -> str:
        for message in self.kernel.messages:
            content = message["content"]
            is_open = message["msg_type"] == "comm_open" and content["target_name"] == TARGET
            if is_open and content["data"] == {"client": self.client}:
                return str(content["comm_id"])
        return ""

    @property
    def state(self) -> dict[str, Any]:
        return self.kernel.comms.get(self.comm_id, {})

    @property
    def session(self) -> dict[str, Any]:
        """The session that is shown, empty without one."""
        return self.state.get("session") or {}

    def until(self, **values: Any) -> dict[str, Any]:
        """The state, once it has these values; `None` stands for any."""

        def is_there() -> bool:
            return all(
                name in self.state and value in (None, self.state[name])
                for name, value in values.items()
            )

        self.kernel.until(is_there, what=f"{values} in {self.state}")
        return self.state

    def act(self, action: str, args: Any = None, *pieces: bytes) -> dict[str, Any]:
        """Have something done: the result, with the bytes that came along as `buffers`."""
        id, reply = self.send(action, args, *pieces)
        assert reply["status"] == "ok", reply

        def result() -> dict[str, Any] | None:
            for message in self.kernel.messages:
                if message["msg_type"] == "comm_msg":
                    data = message["content"]["data"]
                    if data.get("type") == "result" and data["id"] == id:
                        return {**data, "buffers": [bytes(b) for b in message["buffers"]]}
            return None

        found: dict[str, Any] = self.kernel.until(result, what=f"result of {action}")
        return found
