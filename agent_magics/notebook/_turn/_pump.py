"""
Widget messages reach Python while a cell is still running.

A cell that waits for an agent keeps the kernel's main thread busy, and a busy kernel handles no
message of the shell channel: neither a click on "Allow once" nor the front end's question which
widgets exist. `CommPump` is the way around. One hook on the kernel's shell stream, installed once
per kernel (`_comm_hook`), looks at the header of every shell message. While a pump is open, the
messages of `HANDLED` go to the innermost pump, and the waiting cell dispatches them itself, on its
own thread. All others go to ipykernel's own callback untouched, hence stay in order. No message of
a widget is dispatched by an event loop that was entered again; the kernel's loop runs meanwhile
only for `keep_tasks`, see `_own_tasks`.

- ipykernel 7: the "Shell channel" thread reads the stream, so the hook runs there even while the
  main thread is blocked, and before the message is routed to a subshell.
- ipykernel 6: the stream belongs to the main thread's loop. While waiting, the pump polls the
  ZeroMQ socket and calls `ZMQStream.flush(POLLIN)`, which runs the hook for whatever arrived.

Private API in use, because there is no public one: `ZMQStream._recv_callback` (the callback to
pass other messages on to), `Kernel._publish_status` and `Kernel._parent_ident` (what
`dispatch_shell` does around a handler), `shell_channel_thread.manager` (the socket for replies).
If any of it is missing, `CommPump.live` is false and the caller has to ask in another way.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import logging
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any

from ._comm_hook import CommHook, hook_of
from ._own_tasks import OwnTasks

__all__ = ["CommPump"]

_SLICE = 0.1  # seconds; short waits let signals through on every platform

_log = logging.getLogger("agent_magics.pump")


class CommPump:
    """
    A queue that any thread may `post()` to and that one waiting cell reads with `get()`.

    While the cell waits, widget messages are handled on its thread. A context manager; pumps
    may be nested (a widget's callback may run a turn of its own). Without a kernel it is the
    queue alone. With `keep_tasks` the notebook's own asyncio tasks go on meanwhile.

    Stop (SIGINT, main thread only): the first one raises `KeyboardInterrupt` at the next `get()`
    or `wait()`, never in the middle of a message; a second one raises at once.
    """

    def __init__(self, kernel: Any = None, *, keep_tasks: bool = False) -> None:
        self._kernel = kernel
        self._keep_tasks = keep_tasks
        self._tasks: OwnTasks | None = None
        self._hook: CommHook | None = None
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._items: collections.deque[Any] = collections.deque()
        self._wake_sockets: tuple[socket.socket, socket.socket] | None = None
        self._poller: Any = None
        self._zmq: Any = None
        self._interrupts = 0
        self._eager = False
        self._old_sigint: Any = None
        self._owns_sigint = False

    @property
    def live(self) -> bool:
        """Whether widget messages can arrive while the cell waits."""
        return self._hook is not None

    # -- life cycle ------------------------------------------------------------------------------

    def __enter__(self) -> CommPump:
        if self._kernel is not None:
            try:
                self._attach()
            except Exception:
                _log.warning("widgets cannot answer while a cell runs", exc_info=True)
                self._hook = None
        if threading.current_thread() is threading.main_thread():
            self._old_sigint = signal.signal(signal.SIGINT, self._on_sigint)
            self._owns_sigint = True
            if self._keep_tasks:
                self._tasks = OwnTasks.of_this_thread(self._kernel)
        return self

    def _attach(self) -> None:
        hook = hook_of(self._kernel)
        if hook is None:
            return
        if not _runs_cells(self._kernel):
            return  # a thread of the user's; the main thread handles messages as always
        if not hook.threaded:
            self._open_poller(hook.stream.socket)
        self._hook = hook
        hook.add(self)

    def _open_poller(self, shell_socket: Any) -> None:
        self._zmq = import_module("zmq")
        self._wake_sockets = socket.socketpair()
        for end in self._wake_sockets:
            end.setblocking(False)
        self._poller = self._zmq.Poller()
        self._poller.register(shell_socket, self._zmq.POLLIN)
        self._poller.register(self._wake_sockets[0], self._zmq.POLLIN)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._hook is not None:
            self._hook.remove(self)
            self._handle_leftovers()
        if self._owns_sigint:
            signal.signal(signal.SIGINT, self._old_sigint or signal.default_int_handler)
            self._owns_sigint = False
        if self._wake_sockets is not None:
            sockets, self._wake_sockets = self._wake_sockets, None
            for end in sockets:
                end.close()
        if exc_type is None and self._interrupts:  # a Stop that nobody has seen yet
            self._interrupts = 0
            raise KeyboardInterrupt

    def _handle_leftovers(self) -> None:
        """Nothing taken may be lost: not even when one of the callbacks is interrupted."""
        while True:
            try:
                kind, value = self._inbox.get_nowait()
            except queue.Empty:
                return
            if kind == "message":
                try:
                    self._dispatch(*value)
                except KeyboardInterrupt:
                    self._interrupts += 1

    # -- any thread ------------------------------------------------------------------------------

    def post(self, value: Any) -> None:
        """Hand `value` to the waiting cell."""
        self._inbox.put(("item", value))
        self._wake()

    def take(self, idents: Any, message: Any) -> None:
        self._inbox.put(("message", (idents, message)))
        self._wake()

    def say_busy(self) -> None:
        self._inbox.put(("busy", None))
        self._wake()

    def _wake(self) -> None:
        tasks = self._tasks
        if tasks is not None:
            tasks.wake()
        sockets = self._wake_sockets
        if sockets is not None:
            with contextlib.suppress(OSError):  # full: awake already; closed: nobody waits
                sockets[1].send(b"x")

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._eager or self._interrupts >= 2:
            self._interrupts = 0
            raise KeyboardInterrupt
        self._inbox.put(("wake", None))
        self._wake()

    # -- the waiting cell ------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """
        The next posted value; widget messages are handled meanwhile.

        Raises `queue.Empty` after `timeout` seconds and `KeyboardInterrupt` after a Stop.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self._check_interrupt()
        while not self._items:
            left = _SLICE if end is None else end - time.monotonic()
            if left < 0:
                raise queue.Empty
            self._poll(min(_SLICE, left))
            self._check_interrupt()
        return self._items.popleft()

    def wait(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Handle widget messages until `predicate()` holds; posted values stay queued."""
        end = None if timeout is None else time.monotonic() + timeout
        while not predicate():
            left = _SLICE if end is None else end - time.monotonic()
            if left <= 0:
                return False
            self._poll(min(_SLICE, left))
            self._check_interrupt()
        return True

    @contextlib.contextmanager
    def blocking(self) -> Iterator[None]:
        """Around a call that waits by itself, such as `input()`: a Stop raises in it at once."""
        self._eager = True
        try:
            self._check_interrupt()
            yield
        finally:
            self._eager = False

    def _check_interrupt(self) -> None:
        if self._interrupts:
            self._interrupts = 0
            raise KeyboardInterrupt

    def _poll(self, seconds: float) -> None:
        """Wait at most `seconds` for something, then handle all that is there."""
        if self._tasks is not None and self._tasks.run(seconds, self._inbox.empty):
            seconds = 0
        if self._wake_sockets is not None and self._hook is not None:
            if self._inbox.empty():
                self._poller.poll(seconds * 1000)
            with contextlib.suppress(BlockingIOError):
                self._wake_sockets[0].recv(4096)
            self._hook.stream.flush(self._zmq.POLLIN)  # runs the hook for whatever arrived
        else:
            try:
                self._sort(*self._inbox.get(timeout=max(0, seconds)))
            except queue.Empty:
                return
        while True:
            try:
                self._sort(*self._inbox.get_nowait())
            except queue.Empty:
                return

    def _sort(self, kind: str, value: Any) -> None:
        if kind == "message":
            self._dispatch(*value)
        elif kind == "item":
            self._items.append(value)
        elif kind == "busy":
            self._kernel._publish_status("busy", "shell")

    # -- what Kernel.dispatch_shell does, with the cell's own parent restored afterwards ---------

    def _dispatch(self, idents: Any, message: Any) -> None:
        kernel = self._kernel
        saved_parent = kernel.get_parent("shell")
        saved_idents = kernel._parent_ident["shell"]
        _flush_streams()
        kernel.set_parent(idents, message, channel="shell")
        try:
            kernel._publish_status("busy", "shell")
            self._call_handler(idents, message)
        finally:
            _flush_streams()
            kernel._publish_status("idle", "shell")  # ipywidgets sends no more before this idle
            if self._hook is not None and not self._hook.threaded:
                kernel.shell_stream.flush(self._zmq.POLLOUT)
            kernel.set_parent(saved_idents, saved_parent, channel="shell")
            kernel._publish_status("busy", "shell")  # the cell goes on; keep the indicator honest

    def _call_handler(self, idents: Any, message: Any) -> None:
        kind = message["header"]["msg_type"]
        try:
            result = self._kernel.shell_handlers[kind](self._reply_socket(), idents, message)
            if inspect.iscoroutine(result):
                _drive(result)
        except Exception:
            _log.exception("exception in the %s handler", kind)

    def _reply_socket(self) -> Any:
        if self._hook is None or not self._hook.threaded:
            return self._kernel.shell_stream
        manager = self._kernel.shell_channel_thread.manager
        try:
            subshell = manager.subshell_id_from_thread_id(threading.get_ident())
        except RuntimeError:  # the main shell
            subshell = None
        return manager.get_subshell_to_shell_channel_socket(subshell)


def _runs_cells(kernel: Any) -> bool:
    """Whether this thread belongs to the kernel: its main thread, or one of a subshell."""
    if threading.current_thread() is threading.main_thread():
        return True
    channel = getattr(kernel, "shell_channel_thread", None)
    if channel is None:
        return False
    try:
        return channel.manager.subshell_id_from_thread_id(threading.get_ident()) is not None
    except RuntimeError:
        return False


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _drive(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that never suspends, as ipykernel's `comm_info_request` is."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("the handler waits for something; it cannot run inside a busy cell")
