"""
The engine's log: what happened and where, never what was said.

Exceptions and the messages of other packages may quote prompts, files or keys. Of them only
types, places and templates are written.
"""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from logging.handlers import WatchedFileHandler
from pathlib import Path
from types import TracebackType

__all__ = ["configure_logging"]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_LONGEST_FOREIGN = 200


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if not record.name.startswith("agent_magics"):
            record = logging.makeLogRecord(record.__dict__)
            first = str(record.msg).partition("\n")[0]
            record.msg, record.args = first[:_LONGEST_FOREIGN], None
        return super().format(record)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        kind, _, trace = ei
        frames = traceback.extract_tb(trace)
        places = [f"  {f.filename}:{f.lineno} {f.name}" for f in frames]
        return "\n".join([kind.__name__ if kind else "no exception", *places])


class _File(WatchedFileHandler):
    """A file that may be removed, or be on a full disk: what can't be written is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the usual report goes to the same disk, and quotes what was logged."""


def configure_logging(path: Path) -> None:
    """Send this package's log, and the warnings of others, to the file."""
    handler = _File(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("agent_magics").setLevel(logging.INFO)
