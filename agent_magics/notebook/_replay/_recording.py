"""
Recorded turns: files of JSON Lines that `%%agent --record` writes and `--replay` shows.

The first line is the head:

    {"format": "agent-magics-recording", "version": 1, "written_by": "0.1.0",
     "created": "2026-01-31T12:00:00Z", "prompt": "...", "session": {...}, "model": "..."}

Each further line is an event of the turn, as the client gives it, at its time in seconds since
the first one, or an image that the turn made:

    {"at": 0.25, "event": {"type": "text-delta", "delta": "Hi", "part_id": "prt_1"}}
    {"at": 3.5, "image": {"name": "x.png", "mime": "image/png", "data": "<base64>"}}

The last one is the event `turn-ended`. Fields that have their default are left out. Files that the
prompt sent along are not in it, nor is anything of the engine's configuration: no key, no address.
A reader refuses a higher version and ignores names that it does not know.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ... import wire
from ...wire import AgentEvent, SessionInfo, TurnEnded
from ._codec import Damaged, decoded, encoded

if TYPE_CHECKING:
    from ...client import TurnInput

__all__ = ["Entry", "Image", "Recording", "prompt_text", "read_recording", "write_recording"]

FORMAT = "agent-magics-recording"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that the turn made; its `name` is the path in the container, or the file's name."""

    name: str
    mime: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened `at` seconds after the first event."""

    at: float
    what: AgentEvent | Image


@dataclass(frozen=True, slots=True)
class Recording:
    """
    One turn: what was asked, where it ran, and what happened, in order.

    `model` is the turn's own one; empty for the session's. `created` is in ISO 8601.
    """

    prompt: str
    session: SessionInfo
    entries: tuple[Entry, ...]
    model: str = ""
    created: str = ""

    @property
    def ended(self) -> TurnEnded:
        """The last event."""
        last = self.entries[-1].what
        assert isinstance(last, TurnEnded)
        return last

    @property
    def seconds(self) -> float:
        """How long the turn took."""
        return self.entries[-1].at


def prompt_text(prompt: TurnInput) -> str:
    """What a person wrote of `prompt`: its texts, without the files that go along."""
    from ...client import CommandCall, TextInput

    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, CommandCall):
        return f"/{prompt.name} {prompt.args if isinstance(prompt.args, str) else ''}".rstrip()
    parts: Sequence[Any] = prompt["parts"] if isinstance(prompt, dict) else list(prompt)
    texts = []
    for part in parts:
        if isinstance(part, TextInput):
            texts.append(part.text)
        elif isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "\n\n".join(texts)


def write_recording(path: Path, recording: Recording) -> None:
    """Write it, at once: the file is whole or as it was before. Raises `OSError`."""
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8", errors="surrogatepass") as file:
            for line in _lines(recording):
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_recording(path: Path) -> Recording:
    """Raises `UsageError` for a file that is not there, is damaged, or is of a newer version."""
    try:
        text = path.read_text("utf-8", "surrogatepass")
    except OSError as error:
        raise UsageError(f"--replay {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--replay {path}: this is no recording of a turn") from None
    lines = text.split("\n")
    head = _head(path, lines[0])
    try:
        entries = tuple(
            _entry(line, number) for number, line in enumerate(lines[1:], 2) if line.strip()
        )
        if not entries or not isinstance(entries[-1].what, TurnEnded):
            raise Damaged("the end of the turn is missing: the file was cut")
        if any(later.at < entry.at for entry, later in itertools.pairwise(entries)):
            raise Damaged("the times are not in order")
        return Recording(
            prompt=decoded(str, head.get("prompt", ""), "prompt"),
            session=decoded(SessionInfo, head.get("session"), "session"),
            entries=entries,
            model=decoded(str, head.get("model", ""), "model"),
            created=decoded(str, head.get("created", ""), "created"),
        )
    except (Damaged, RecursionError) as error:
        raise UsageError(f"--replay {path}: the recording is damaged: {error}") from None


def _lines(recording: Recording) -> Iterator[dict[str, Any]]:
    from agent_magics import __version__

    yield {
        "format": FORMAT,
        "version": VERSION,
        "written_by": __version__,
        "created": recording.created,
        "prompt": recording.prompt,
        "model": recording.model,
        "session": encoded(recording.session),
    }
    for entry in recording.entries:
        at = round(entry.at, 4)
        if isinstance(entry.what, Image):
            data = base64.b64encode(entry.what.data).decode("ascii")
            image = {"name": entry.what.name, "mime": entry.what.mime, "data": data}
            yield {"at": at, "image": image}
        else:
            yield {"at": at, "event": encoded(entry.what)}


def _head(path: Path, line: str) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise UsageError(f"--replay {path}: this is no recording of a turn (--record writes one)")
    version = head.get("version")
    if type(version) is not int or version < 1:
        raise UsageError(f"--replay {path}: the recording is damaged: its version is missing")
    if version > VERSION:
        raise UsageError(
            f"--replay {path}: the recording has version {version}, this agent-magics reads "
            f"version {VERSION}: pip install --upgrade agent-magics"
        )
    return head


def _entry(line: str, number: int) -> Entry:
    where = f"line {number}"
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise Damaged(f"{where} is no JSON") from None
    if not isinstance(data, dict) or not ("event" in data or "image" in data):
        raise Damaged(f"{where} is neither an event nor an image")
    at = decoded(float, data.get("at"), f"{where}: at")
    if not 0 <= at < 1e9:
        raise Damaged(f"{where}: at is no time")
    if "event" in data:
        return Entry(at, decoded(wire.AgentEvent, data["event"], f"{where}: event"))
    image = data["image"]
    texts = [isinstance(image, dict) and image.get(key) for key in ("name", "mime", "data")]
    if not all(isinstance(text, str) for text in texts):
        raise Damaged(f"{where}: image is not complete")
    name, mime, body = (str(text) for text in texts)
    try:
        return Entry(at, Image(name, mime, base64.b64decode(body, validate=True)))
    except (binascii.Error, ValueError):
        raise Damaged(f"{where}: image has damaged data") from None
