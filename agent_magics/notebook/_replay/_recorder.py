"""What listens while a turn runs: which session and message it is, and `--record`."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from ...wire import Attachment, FilePart, SessionInfo, TurnEnded, TurnStarted, UnknownEvent
from .._turn._wait import patiently
from ._recording import Entry, Image, Recording, prompt_text, write_recording

if TYPE_CHECKING:
    from ...client import SessionHandle, Turn, TurnInput
    from ...wire import AgentEvent
    from .._turn._turn import Begin

__all__ = ["Listener", "Recorder", "listener_for"]

_IMAGE_LIMIT = 5 << 20  # bytes, as in the transcript


class Listener:
    """Stands between a turn and who shows it. `session` and `message_id` are there once it runs."""

    def __init__(self) -> None:
        self.session: SessionHandle | None = None
        self.message_id = ""

    def wrap(self, begin: Begin) -> Begin:
        """`begin`, listened to."""

        def listened(session: SessionHandle, on_event: Callable[[AgentEvent], None]) -> Turn:
            self.placed(session)

            def hear(event: AgentEvent) -> None:
                self.hear(event)
                on_event(event)

            return begin(session, hear)

        return listened

    def placed(self, session: SessionHandle) -> None:
        """The turn is about to begin in this session. May block on the network."""
        self.session = session

    def save(self) -> None:
        """The turn is over: keep what is to be kept."""

    def hear(self, event: AgentEvent) -> None:
        """Called on the client's thread, in order."""
        if isinstance(event, TurnStarted):
            self.message_id = event.message_id


class Recorder(Listener):
    """Keeps the events of a turn; `save()` writes them when it is over."""

    def __init__(self, path: Path, prompt: str, model: str) -> None:
        super().__init__()
        self._path = path
        self._prompt = prompt
        self._model = model
        self._created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._first: float | None = None
        self._entries: list[Entry] = []
        self._info: SessionInfo | None = None

    def placed(self, session: SessionHandle) -> None:
        super().placed(session)
        self._info = session.get_info()  # now: after a failed turn the engine may be gone

    def hear(self, event: AgentEvent) -> None:
        super().hear(event)
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        if not isinstance(event, UnknownEvent):  # nothing would be shown of it
            self._entries.append(Entry(now - self._first, event))

    def save(self) -> None:
        """
        Fetch the images and write the file, if the turn has come to its end.

        Raises `TurnFailed` when that can't be done.
        """
        patiently(self._save)

    def _save(self) -> None:
        if self.session is None or self._info is None or not self._entries:
            return
        if not isinstance(self._entries[-1].what, TurnEnded):
            sys.stderr.write(f"{self._path} is not written: the end of the turn did not come.\n")
            return
        write_recording(
            self._path,
            Recording(
                prompt=self._prompt,
                session=_without_account(self._info),
                entries=tuple(self._with_images(self.session)),
                model=self._model,
                created=self._created,
            ),
        )

    def _with_images(self, session: SessionHandle) -> list[Entry]:
        found = []
        for entry in self._entries:
            found.append(entry)
            part = entry.what.part if isinstance(entry.what, Attachment) else None
            if part is not None and part.path and part.mime.startswith("image/"):
                image = _fetched(session, part)
                if image is not None:
                    found.append(Entry(entry.at, image))
        return found


def _fetched(session: SessionHandle, part: FilePart) -> Image | None:
    """The image, None when it is gone or too large: the turn's view says so as well."""
    from ...client import AgentError

    assert part.path is not None
    try:
        data = session.get_file_buffer(part.path)
    except AgentError:
        return None
    if len(data) > _IMAGE_LIMIT:
        return None
    return Image(part.filename or part.path, part.mime, data)


def _without_account(info: SessionInfo) -> SessionInfo:
    """What a replay shows of the session, and nothing else of it."""
    return SessionInfo(
        id=info.id,
        title=info.title,
        model=info.model,
        agent=info.agent,
        sandbox=info.sandbox,
        isolated=info.isolated,
    )


def listener_for(prompt: TurnInput, record: str | Path | None, model: str | None) -> Listener:
    """
    One for a turn, which writes it to the file `record` if there is one.

    Raises `UsageError` when that can't be written, before anything is sent.
    """
    if record is None:
        return Listener()
    path = Path(record).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--record {record}: no file can be written there")
    return Recorder(path, prompt_text(prompt), model or "")
