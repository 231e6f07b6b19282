"""A real kernel, and the least a widget front end does: remember comms, send clicks."""

from __future__ import annotations

import json
import os
import queue
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zmq
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager

from tests.support.kernels import OLDEST, ROOT


def kernel_pythons() -> dict[str, str]:
    """
    The interpreters whose ipykernel is tested.

    `AGENT_MAGICS_TEST_KERNELS="name=path,name=path"`, by default the one that runs the tests and
    the one with the oldest supported ipykernel where `make` has installed it.
    """
    listed = os.environ.get("AGENT_MAGICS_TEST_KERNELS", "")
    pairs = [item.split("=", 1) for item in listed.split(",") if item.strip()]
    named = {name.strip(): path.strip() for name, path in pairs}
    oldest = {"ipykernel6": str(OLDEST)} if OLDEST.is_file() else {}
    return named or {"newest": sys.executable, **oldest}


class FrontEnd:
    """Plays the front end of one kernel through jupyter_client."""

    def __init__(self, python: str, directory: Path, env: dict[str, str] | None = None) -> None:
        spec = directory / "kernels" / "under-test"
        spec.mkdir(parents=True)
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (spec / "kernel.json").write_text(
            json.dumps({"argv": argv, "display_name": "under test", "language": "python"})
        )
        sockets = self._sockets = TemporaryDirectory(prefix="am-")  # their paths must be short
        self.manager = KernelManager(
            kernel_name="under-test",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(spec.parent)]),
            connection_file=str(directory / "connection.json"),
            transport="ipc",  # TCP ports are chosen before they are bound: others may take them
            ip=str(Path(sockets.name) / "k"),
        )
        self._log = (directory / "kernel.log").open("w")
        home = directory / "home"
        home.mkdir()
        self.state_dir = home / "state"
        self.manager.start_kernel(
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "IPYTHONDIR": str(home / "ipython"),
                "AGENT_MAGICS_STATE_DIR": str(self.state_dir),
                "AGENT_MAGICS_DATA_DIR": str(home / "data"),
                **(env or {}),
            },
            stderr=self._log,
        )
        self.comms: dict[str, dict[str, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.inputs: list[str] = []
        """Answers to `input()`, in order."""
        self.is_console = False
        """Whether it is one that has no cells."""
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.context.setsockopt(zmq.RCVHWM, 0)  # of a flood nothing is dropped on our side
        self.client.start_channels()
        try:
            self.client.wait_for_ready(60)
        except BaseException:
            self.close()
            raise

    def kill_and_restart(self) -> None:
        """SIGKILL, as when it runs out of memory, and a new kernel in the same environment."""
        self.client.stop_channels()
        process = self.manager.provisioner.process  # type: ignore[union-attr]
        process.kill()
        process.wait()  # the manager's own ways to kill begin with SIGINT, which stops the cell
        self.manager.restart_kernel(now=True)
        self.comms.clear()
        self.messages.clear()  # the new client numbers its own from the start again
        self._connect()

    def close(self) -> None:
        """End the kernel in good order, so that what it counted (coverage) is kept."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self._log.close()
        self._sockets.cleanup()

    # -- receiving -------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], timeout: float = 60.0, what: str = "") -> Any:
        """Handle messages until `condition()` is truthy; fails after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            self._receive()
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                tail = [(m["msg_type"], str(m["content"])[:300]) for m in self.messages[-8:]]
                raise AssertionError(f"not within {timeout:g} s: {what or condition}\n{tail}")

    def _receive(self) -> None:
        channels = {
            "iopub": self.client.get_iopub_msg,
            "shell": self.client.get_shell_msg,
            "control": self.client.get_control_msg,
            "stdin": self.client.get_stdin_msg,
        }
        for channel, get in channels.items():
            while True:
                try:
                    message = get(timeout=0.003)
                except queue.Empty:
                    break
                self.messages.append({**message, "channel": channel, "at": time.monotonic()})
                self._react(message)

    def _react(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open":
            self.comms[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif kind == "comm_msg" and content["comm_id"] in self.comms:
            self.comms[content["comm_id"]].update(content["data"].get("state", {}))
        elif kind == "comm_close":
            self.comms.pop(content["comm_id"], None)
        elif kind == "input_request" and self.inputs:
            self.client.input(self.inputs.pop(0))

    def of(self, msg_id: str, *kinds: str) -> list[dict[str, Any]]:
        """The messages of these kinds that belong to the request `msg_id`."""
        return [
            m
            for m in self.messages
            if m["parent_header"].get("msg_id") == msg_id and m["msg_type"] in kinds
        ]

    def reply(self, msg_id: str) -> dict[str, Any] | None:
        found = (
            m
            for m in self.messages
            if m["parent_header"].get("msg_id") == msg_id and m["msg_type"].endswith("_reply")
        )
        return next(found, None)

    def is_idle(self, msg_id: str) -> bool:
        return any(m["content"]["execution_state"] == "idle" for m in self.of(msg_id, "status"))

    def is_done(self, msg_id: str) -> bool:
        return self.reply(msg_id) is not None and self.is_idle(msg_id)

    def text(self, msg_id: str) -> str:
        """What the cell printed, and the tracebacks it showed."""
        out = []
        for message in self.of(msg_id, "stream", "error"):
            content = message["content"]
            out.append(content.get("text") or "\n".join(content.get("traceback", [])))
        return "".join(out)

    def outputs(self, msg_id: str) -> list[dict[str, Any]]:
        """The mime bundles that the cell shows, after all updates of its displays."""
        shown: dict[str, dict[str, Any]] = {}
        for index, message in enumerate(self.messages):
            content = message["content"]
            key = content.get("transient", {}).get("display_id") if content else None
            if message["msg_type"] == "update_display_data" and key in shown:
                shown[key] = content["data"]
            elif (
                message["msg_type"] in ("display_data", "execute_result")
                and message["parent_header"].get("msg_id") == msg_id
            ):
                shown[key or str(index)] = content["data"]
        return list(shown.values())

    # -- sending ---------------------------------------------------------------------------------

    def send(
        self,
        kind: str,
        content: dict[str, Any],
        *,
        buffers: list[bytes] | None = None,
        channel: str = "shell",
        metadata: dict[str, Any] | None = None,
    ) -> str:
        session = self.client.session
        message = session.msg(kind, content, metadata=metadata)
        socket = getattr(self.client, f"{channel}_channel").socket
        session.send(socket, message, buffers=buffers)
        return str(message["header"]["msg_id"])

    def execute(self, code: str, *, allow_stdin: bool = True) -> str:
        """Queue a cell; does not wait."""
        return self.send(
            "execute_request",
            {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": allow_stdin,
                "stop_on_error": True,
            },
            metadata={} if self.is_console else {"cellId": uuid.uuid4().hex[:8]},
        )

    def run(self, code: str, *, timeout: float = 60.0, **options: Any) -> str:
        """Execute a cell, wait for its end, give back what it printed."""
        msg_id = self.execute(code, **options)
        self.until(lambda: self.is_done(msg_id), timeout, f"end of {code[:60]!r}")
        return self.text(msg_id)

    def comm_with(self, **state: Any) -> str | None:
        """The latest comm whose state has these values."""
        for comm_id, known in reversed(self.comms.items()):
            if all(known.get(key) == value for key, value in state.items()):
                return comm_id
        return None

    def custom(self, comm_id: str, content: Any, buffers: list[bytes] | None = None) -> str:
        """A custom message of the widget behind `comm_id`."""
        data = {"method": "custom", "content": content}
        return self.send("comm_msg", {"comm_id": comm_id, "data": data}, buffers=buffers)

    def update(self, comm_id: str, **state: Any) -> str:
        data = {"method": "update", "state": state, "buffer_paths": []}
        return self.send("comm_msg", {"comm_id": comm_id, "data": data})

    def click(self, description: str) -> str:
        """Press the `ipywidgets.Button` with this description, as soon as it is there."""
        comm_id = self.until(lambda: self.comm_with(description=description), what=description)
        return self.custom(comm_id, {"event": "click"})

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()


@contextmanager
def started(python: str, directory: Path, env: dict[str, str] | None = None) -> Iterator[FrontEnd]:
    front_end = FrontEnd(python, directory, env)
    try:
        yield front_end
    finally:
        front_end.close()
