"""`--real-tools`: the calls of a recorded turn, carried out again in a container of today."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .._errors import TurnFailed
from .._text import printable

if TYPE_CHECKING:
    from ...client import SessionHandle
    from ...wire import ToolPart

__all__ = ["RealTools"]

_OVERWRITTEN = re.compile(r"[^\n]*\r")  # progress bars
_READ_LINES = 2000
_TIMEOUT_MS = 120_000


class RealTools:
    """
    bash, write, edit and read, in the container of `session`. Its methods block on the network.

    `left_out` are the names of other tools that were seen. Raises `TurnFailed` when there is no
    container: the commands of a file from elsewhere never run on this computer itself.
    """

    def __init__(self, session: SessionHandle) -> None:
        if not session.get_info().isolated:
            raise TurnFailed(
                "--real-tools runs the recorded commands, and this session has no container: "
                "add --new --sandbox auto",
                name="NotIsolated",
            )
        self._session = session
        self.left_out: set[str] = set()

    @staticmethod
    def runs(part: ToolPart) -> bool:
        """Whether such a call is carried out again."""
        return part.tool in _TOOLS

    def again(self, part: ToolPart) -> tuple[ToolPart, bool] | None:
        """
        The call as it ends today, and whether it brings something else than was recorded.

        None for a tool that is not carried out again. Raises the client's errors when the
        container can't be reached.
        """
        run = _TOOLS.get(part.tool)
        if run is None:
            if not part.is_shown_by_todos:
                self.left_out.add(part.tool)
            return None
        from ...client import FileMissing, NotText

        try:
            output, metadata = run(self._session, part.state.input)
        except (FileMissing, NotText, _Refused) as error:
            output, metadata = f"[failed: {error}]", {}
        recorded = part.state.output
        differs = _comparable(output) != _comparable(recorded) if output is not None else False
        state = dataclasses.replace(
            part.state,
            output=recorded if output is None else output,
            metadata={**part.state.metadata, **metadata},
        )
        return dataclasses.replace(part, state=state), differs


class _Refused(Exception):
    """The call can't be carried out today."""


_Outcome = tuple[str | None, Mapping[str, Any]]
"""What a call brought, None for a tool whose words say nothing, and its new metadata."""


def _bash(session: SessionHandle, given: Mapping[str, Any]) -> _Outcome:
    pieces: list[str] = []
    result = session.shell(
        _text(given, "command"),
        timeout=timedelta(milliseconds=_number(given, "timeout", _TIMEOUT_MS)),
        cwd=_path(given.get("workdir") or "/workspace"),
        on_output=lambda stream, text: pieces.append(text),
    )
    output = _as_shown("".join(pieces)).rstrip("\n") or "(no output)"
    ending = f"\n[exit code {result.exit_code}]" if result.exit_code else ""
    return output + ending, {"exit": result.exit_code, "timedOut": result.timed_out}


def _write(session: SessionHandle, given: Mapping[str, Any]) -> _Outcome:
    session.put_file(_path(given.get("filePath")), _text(given, "content").encode())
    return None, {}


def _edit(session: SessionHandle, given: Mapping[str, Any]) -> _Outcome:
    path = _path(given.get("filePath"))
    old, new = _text(given, "oldString"), _text(given, "newString")
    before = session.get_file(path)
    found = before.count(old) if old else 0
    if not found or (found > 1 and not given.get("replaceAll")):
        raise _Refused(f"the text to replace is in {path} {found} times")
    session.put_file(path, before.replace(old, new).encode())
    return None, {}


def _read(session: SessionHandle, given: Mapping[str, Any]) -> _Outcome:
    lines = session.get_file(_path(given.get("filePath"))).split("\n")
    if lines[-1] == "":
        lines.pop()
    first = max(_number(given, "offset", 1), 1)
    shown = lines[first - 1 : first - 1 + _number(given, "limit", _READ_LINES)]
    numbered = [f"{number}: {line.rstrip(chr(13))}" for number, line in enumerate(shown, first)]
    if first + len(shown) - 1 < len(lines):
        numbered.append(f"[{len(lines)} lines in all; read on with offset={first + len(shown)}]")
    return "\n".join(numbered) or "(the file is empty)", {}


_TOOLS: dict[str, Callable[[SessionHandle, Mapping[str, Any]], _Outcome]] = {
    "bash": _bash,
    "edit": _edit,
    "read": _read,
    "write": _write,
}


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Refused("the recorded call names no file")
    return posixpath.join("/workspace", value)


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise _Refused(f"the recorded call has no {name}")
    return value


def _number(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    return value if type(value) is int and value > 0 else default


def _comparable(output: str) -> str:
    """Without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in _as_shown(output).strip().split("\n"))


def _as_shown(output: str) -> str:
    """The output as it stands on a screen."""
    return printable(_OVERWRITTEN.sub("", output.replace("\r\n", "\n")))
