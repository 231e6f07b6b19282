"""The one hook on a kernel's shell stream: messages of widgets go to whoever waits for them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._pump import CommPump

__all__ = ["HANDLED", "CommHook", "Listener", "hook_of", "listen", "show_busy"]

Listener = Callable[[Mapping[str, Any]], bool]
"""
Gets the data of a widget's message and says whether it has taken it.

Called on the thread that reads the shell channel; it must not wait.
"""

HANDLED = frozenset(
    {"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"}
)
"""Message types that a pump takes. The last two let a reloaded page find its widgets again."""

_HOOK = "_agent_magics_comm_hook"
_INSTALL_TIMEOUT = 5.0

_log = logging.getLogger("agent_magics.pump")
_hooks_lock = threading.Lock()


class CommHook:
    """The one hook of a kernel. `pumps` is a stack: the innermost waiting cell is last."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.stream = kernel.shell_stream
        self.threaded = getattr(kernel, "shell_channel_thread", None) is not None
        self._lock = threading.Lock()
        self._pumps: list[CommPump] = []
        self._listeners: dict[str, Listener] = {}
        self._original: Callable[[Any], Any] = self.stream._recv_callback
        if not callable(self._original):
            raise RuntimeError("the shell stream has no callback")
        if self.threaded:
            self._install_from_its_loop()
        else:
            self.stream.on_recv(self._on_recv, copy=False)

    def _install_from_its_loop(self) -> None:
        done = threading.Event()

        def install() -> None:
            self._original = self.stream._recv_callback
            self.stream.on_recv(self._on_recv, copy=False)
            done.set()

        self.stream.io_loop.add_callback(install)  # streams are not thread-safe
        if not done.wait(_INSTALL_TIMEOUT):
            raise RuntimeError("the shell channel's thread does not answer")

    def add(self, pump: CommPump) -> None:
        with self._lock:
            self._pumps.append(pump)

    def remove(self, pump: CommPump) -> None:
        """After this call the pump gets no further message."""
        with self._lock, contextlib.suppress(ValueError):
            self._pumps.remove(pump)

    def show_busy(self) -> None:
        """Have the waiting cell, if one waits, say that it is running."""
        with self._lock:
            if self._pumps:
                self._pumps[-1].say_busy()

    def listen(self, comm_id: str, listener: Listener | None) -> None:
        with self._lock:
            self._listeners.pop(comm_id, None)
            if listener is not None:
                self._listeners[comm_id] = listener

    def _on_recv(self, frames: Any) -> Any:
        if self._pumps or self._listeners:
            try:
                if self._offer(frames):
                    return None
            except Exception:
                _log.warning("comm hook failed; the message is passed on", exc_info=True)
        return self._original(frames)  # may be a coroutine: ZMQStream schedules it

    def _offer(self, frames: Any) -> bool:
        session = self.kernel.session
        idents, rest = session.feed_identities(frames, copy=False)
        header = session.unpack(rest[1].bytes)  # rest: signature, header, parent, metadata, content
        if header["msg_type"] not in HANDLED:
            return False
        with self._lock:
            if header["msg_type"] == "comm_msg" and self._listeners:
                content = session.deserialize(rest, content=False, copy=False)["content"]
                if self._hear(session.unpack(content)):
                    return True
            if not self._pumps:
                return False
            message = session.deserialize(rest, content=True, copy=False)
            self._pumps[-1].take(idents, message)
        return True

    def _hear(self, content: Mapping[str, Any]) -> bool:
        listener = self._listeners.get(content["comm_id"])
        return listener is not None and listener(content["data"])


def hook_of(kernel: Any) -> CommHook | None:
    """The kernel's hook, made at first use. It is kept on the kernel: survives module reloads."""
    if getattr(kernel, "shell_stream", None) is None:
        return None
    with _hooks_lock:
        hook: CommHook | None = getattr(kernel, _HOOK, None)
        if hook is None or hook.stream is not kernel.shell_stream:
            hook = CommHook(kernel)
            setattr(kernel, _HOOK, hook)
        return hook


def show_busy(kernel: Any) -> None:
    """
    From any thread: say once more that `kernel` is busy, if a cell waits in a pump.

    A request on the control channel ends with "idle", and front ends take that for the kernel's
    own state although a cell goes on.
    """
    hook: CommHook | None = getattr(kernel, _HOOK, None)
    if hook is not None:
        hook.show_busy()


def listen(kernel: Any, comm_id: str, listener: Listener) -> Callable[[], None]:
    """
    Have the messages of one widget taken by `listener`; gives back what ends that.

    On ipykernel 7 they come while any cell runs, on ipykernel 6 while none does or one waits in a
    pump. Where the kernel has no such interface they keep their usual way.
    """
    try:
        hook = hook_of(kernel)
    except Exception:
        _log.warning("widgets cannot answer while another cell runs", exc_info=True)
        hook = None
    if hook is None:
        return lambda: None
    hook.listen(comm_id, listener)
    return partial(hook.listen, comm_id, None)
