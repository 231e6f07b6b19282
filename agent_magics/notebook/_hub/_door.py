"""
How the JupyterLab extension reaches the kernel: one kind of request on the control channel.

A busy kernel reads its control channel all the same, on a thread of its own and in every version
of ipykernel, so the extension's panel works while a cell runs and right after a page was
reloaded. The handler only hands over. What there is to tell goes back through a comm that the hub
opens: messages to the front end always flow.

    request  agent_magics_request {client, id, action, args}, buffers
    reply    agent_magics_reply {status: ok, protocol} or {status: error, message}

Nothing of the hub is imported before the first request comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._frontend import kernel_of
from .._turn._comm_hook import show_busy

if TYPE_CHECKING:
    from ._hub import Hub

__all__ = ["PROTOCOL", "REPLY", "REQUEST", "close_door", "open_door"]

REQUEST = "agent_magics_request"
REPLY = "agent_magics_reply"
PROTOCOL = 1


class _Door:
    """The handler; ipykernel calls it on its control thread."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._hub: Hub | None = None

    def __call__(self, stream: Any, idents: Any, message: Mapping[str, Any]) -> None:
        try:
            self._take(message["content"], message.get("buffers") or ())
            answer: dict[str, Any] = {"status": "ok", "protocol": PROTOCOL}
        except ValueError as error:
            answer = {"status": "error", "message": str(error)}
        kernel = kernel_of(self._shell)
        kernel.session.send(stream, REPLY, answer, parent=message, ident=idents)
        asyncio.get_running_loop().call_soon(show_busy, kernel)  # after ipykernel's own "idle"

    def _take(self, content: Any, buffers: Any) -> None:
        from ._hub import Hub, Request

        request = Request.from_json(content, [bytes(buffer) for buffer in buffers])
        if self._hub is None:
            self._hub = Hub(self._shell)
        self._hub.take(request)

    def close(self) -> None:
        if self._hub is not None:
            self._hub.close()


def open_door(shell: Any) -> None:
    """Let the extension in, where there is a kernel."""
    handlers = getattr(kernel_of(shell), "control_handlers", None)
    if isinstance(handlers, dict):
        handlers[REQUEST] = _Door(shell)


def close_door(shell: Any) -> None:
    """The reverse; front ends are told."""
    handlers = getattr(kernel_of(shell), "control_handlers", None)
    door = handlers.pop(REQUEST, None) if isinstance(handlers, dict) else None
    if isinstance(door, _Door):
        door.close()
