"""What the JupyterLab extension may ask for, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ._state import listing_json

if TYPE_CHECKING:
    from ...client import SessionHandle
    from ...wire import PermissionReply
    from .._manage._workbench import Workbench

__all__ = ["ACTIONS", "Answer", "Call", "Transfers"]

_CHUNK = 512 * 1024  # bytes in one message
_LARGEST = 64 << 20  # bytes that go through the browser
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of an action: JSON and, for downloads, bytes."""

    value: Any = None
    buffers: Sequence[bytes] = ()


class Transfers:
    """Files on their way, by the name that the front end gave to the transfer. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[str, bytearray | bytes] = {}

    def chunk(self, name: str, offset: int, fetch: Callable[[], bytes]) -> tuple[bytes, int]:
        """Bytes from `offset` on and the size of the whole; the first call fetches it."""
        if offset == 0:
            self._keep(name, _checked(fetch()))
        with self._lock:
            data = self._data.get(name)
            if data is None:
                raise ValueError("this download is no longer open: start it again")
            if offset + _CHUNK >= len(data):
                del self._data[name]
        return bytes(data[offset : offset + _CHUNK]), len(data)

    def add(self, name: str, offset: int, piece: bytes, last: bool) -> bytes | None:
        """Take a piece of an upload; the whole once it is the `last` one."""
        if offset == 0:
            self._keep(name, bytearray())
        with self._lock:
            data = self._data.get(name)
            if not isinstance(data, bytearray) or len(data) != offset:
                raise ValueError("this upload has lost a piece: start it again")
            data += piece
            _checked(data)
            if not last:
                return None
            del self._data[name]
        return bytes(data)

    def _keep(self, name: str, data: bytearray | bytes) -> None:
        with self._lock:
            self._data[name] = data
            for oldest in list(self._data)[:-_AT_ONCE]:
                del self._data[oldest]


def _checked(data: bytes | bytearray) -> bytes | bytearray:
    if len(data) > _LARGEST:
        raise ValueError(
            f"{len(data) >> 20} MB, more than {_LARGEST >> 20} MB: use %agent_get and %agent_put"
        )
    return data


@dataclass(frozen=True, slots=True)
class Call:
    """One action: its arguments, the bytes that came along, and what it works with."""

    bench: Workbench
    transfers: Transfers
    args: Mapping[str, Any]
    buffers: Sequence[bytes] = ()

    def text(self, name: str, default: str | None = None) -> str:
        """The argument `name`. Raises `ValueError` when it is no text."""
        value = self.args.get(name, default)
        if not isinstance(value, str) or not (value.strip() or value == default):
            raise ValueError(f"{name} must be a text")
        return value

    def number(self, name: str) -> int:
        """The argument `name`, 0 by default. Raises `ValueError` when it is no whole number."""
        value = self.args.get(name, 0)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number")
        return value

    @property
    def session(self) -> SessionHandle:
        """The session that the front end shows, else the notebook's."""
        return self.bench.session(self.args.get("session") or None)


def _refresh(call: Call) -> Answer:
    return Answer()


def _use(call: Call) -> Answer:
    call.bench.use(call.bench.client().session(call.text("id")))
    return Answer()


def _new(call: Call) -> Answer:
    return Answer({"id": call.bench.new(call.text("title", "") or None).id})


def _fork(call: Call) -> Answer:
    copy = call.bench.client().fork_session(call.session.id)
    call.bench.use(copy)
    return Answer({"id": copy.id})


def _rename(call: Call) -> Answer:
    call.session.update(title=call.text("title"))
    return Answer()


def _end(call: Call) -> Answer:
    call.bench.end(call.session)
    return Answer()


def _abort(call: Call) -> Answer:
    return Answer({"stopped": call.session.abort()})


def _reply(call: Call) -> Answer:
    reply = call.text("reply")
    if reply not in ("once", "always", "reject"):
        raise ValueError(f"reply is once, always or reject, not {reply!r}")
    message = call.text("message", "") or None
    call.session.reply_to_permission(call.text("id"), cast("PermissionReply", reply), message)
    return Answer()


def _list(call: Call) -> Answer:
    return Answer(listing_json(call.session.list_files(call.text("path"))))


def _read(call: Call) -> Answer:
    session, path = call.session, call.text("path")
    return _chunk(call, lambda: session.get_file_buffer(path))


def _artifact(call: Call) -> Answer:
    session, key = call.session, call.text("key")
    return _chunk(call, lambda: session.get_artifact_buffer(key))


def _chunk(call: Call, fetch: Callable[[], bytes]) -> Answer:
    piece, size = call.transfers.chunk(call.text("transfer"), call.number("offset"), fetch)
    return Answer({"size": size}, [piece])


def _write(call: Call) -> Answer:
    path, offset = call.text("path"), call.number("offset")
    piece = b"".join(call.buffers)
    whole = call.transfers.add(call.text("transfer"), offset, piece, call.args.get("last") is True)
    if whole is not None:
        call.session.put_file(path, whole)
    return Answer({"size": offset + len(piece)})


ACTIONS: Mapping[str, Callable[[Call], Answer]] = {
    "abort": _abort,
    "artifact": _artifact,
    "end": _end,
    "fork": _fork,
    "list": _list,
    "new": _new,
    "read": _read,
    "refresh": _refresh,
    "rename": _rename,
    "reply": _reply,
    "use": _use,
    "write": _write,
}
