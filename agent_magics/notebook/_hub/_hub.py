"""
What the JupyterLab extension knows about the notebook's session, kept up to date.

Front ends attach through `_hub_door`. Each gets a comm of its own and, over it, the whole state
whenever something in it changed; states are small and rarely change, so none needs the one before
it. Actions run on threads of their own: none waits for another, and no cell is in their way.

    to the front end   {type: state, state: {...}}
                       {type: result, id, ok: true, value} and buffers
                       {type: result, id, ok: false, message}
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .._errors import describe
from .._session import keeper_of
from .._text import one_line

__all__ = ["TARGET", "Channel", "Hub", "Request"]

TARGET = "agent_magics"
_MOST_FRONT_ENDS = 8
_log = logging.getLogger("agent_magics.hub")


class Channel(Protocol):
    """The way to one front end; a `Comm` is one."""

    def send(self, data: Any, metadata: Any = None, buffers: Any = None) -> None: ...

    def close(self) -> None: ...


OpenChannel = Callable[[str], Channel]


def _open_comm(client: str) -> Channel:
    from comm import create_comm

    channel: Channel = create_comm(target_name=TARGET, data={"client": client})
    return channel


@dataclass(frozen=True, slots=True)
class Request:
    """`client` names the front end, `id` the request, `args` and `buffers` go to the action."""

    client: str
    id: str
    action: str
    args: Mapping[str, Any]
    buffers: Sequence[bytes] = ()

    @classmethod
    def from_json(cls, data: Any, buffers: Sequence[bytes] = ()) -> Request:
        """Raises `ValueError` when it is not one."""
        if not isinstance(data, Mapping):
            raise ValueError("a request is an object")
        words = [data.get(name) for name in ("client", "id", "action")]
        args = data.get("args") or {}
        if not all(isinstance(word, str) and word for word in words):
            raise ValueError("client, id and action must be texts")
        if not isinstance(args, Mapping):
            raise ValueError("args must be an object")
        client, id, action = map(str, words)
        return cls(client, id, action, args, buffers)


class Hub:
    """Front ends, their requests, and the state that they share. All methods are thread-safe."""

    def __init__(self, shell: Any, open_channel: OpenChannel = _open_comm) -> None:
        from ._actions import Transfers
        from ._mirror import Mirror

        self._open_channel = open_channel
        self._lock = threading.RLock()
        self._channels: dict[str, Channel] = {}
        self._transfers = Transfers()
        self._mirror = Mirror(shell, self._publish)
        self._keeper = keeper_of(shell)
        self._keeper.listeners.append(self._mirror.session_changed)

    def take(self, request: Request) -> None:
        """Begin what is asked for; returns at once. Raises `ValueError` for an unknown action."""
        from ._actions import ACTIONS

        if request.action == "attach":
            self._in_background(self._attach, request.client)
        elif request.action in ACTIONS:
            self._in_background(self._act, request)
        else:
            raise ValueError(f"there is no action {request.action!r}")

    def close(self) -> None:
        """Let go of all front ends."""
        if self._mirror.session_changed in self._keeper.listeners:
            self._keeper.listeners.remove(self._mirror.session_changed)
        self._mirror.close()
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    def _in_background(self, function: Callable[..., None], *args: object) -> None:
        name = f"agent-magics hub {function.__name__}"
        threading.Thread(target=function, args=args, name=name, daemon=True).start()

    def _attach(self, client: str) -> None:
        with self._lock:
            if client not in self._channels:
                self._channels[client] = self._open_channel(client)
            forgotten = [self._channels.pop(c) for c in list(self._channels)[:-_MOST_FRONT_ENDS]]
            self._send(client, {"type": "state", "state": self._mirror.state})
        for channel in forgotten:
            channel.close()
        self._mirror.start()

    def _publish(self, state: Mapping[str, Any]) -> None:
        with self._lock:
            for client in list(self._channels):
                self._send(client, {"type": "state", "state": state})

    def _act(self, request: Request) -> None:
        from ...client import AgentError
        from .._manage._workbench import Workbench
        from ._actions import ACTIONS, Call

        call = Call(Workbench(), self._transfers, request.args, request.buffers)
        try:
            answer = ACTIONS[request.action](call)
        except AgentError as error:
            self._fail(request, str(describe(error)))
        except Exception as error:  # whatever it is, the front end waits for an answer
            _log.info("%s failed", request.action, exc_info=True)
            self._fail(request, str(error) or type(error).__name__)
        else:
            result = {"type": "result", "id": request.id, "ok": True, "value": answer.value}
            self._send(request.client, result, answer.buffers)
            if request.action not in ("list", "read", "artifact"):
                self._mirror.refresh_all()

    def _fail(self, request: Request, message: str) -> None:
        told = one_line(message)
        self._send(
            request.client, {"type": "result", "id": request.id, "ok": False, "message": told}
        )
        self._mirror.refresh_all()

    def _send(self, client: str, data: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        with self._lock:
            channel = self._channels.get(client)
            if channel is not None:
                channel.send(data, buffers=list(buffers) or None)
