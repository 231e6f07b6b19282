"""Artifacts: named results of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Artifact"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """
    A named result. `source`: "published" for a copy that the agent made, "folder" for a file below
    /workspace/artifacts, which is read when somebody asks for it.

    `path` is the file in the container, `size` in bytes, `time_created` in milliseconds since the
    epoch.
    """

    key: str
    mime: str = "application/octet-stream"
    size: int = 0
    path: str = ""
    description: str = ""
    source: str = ""
    time_created: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Artifact:
        return cls(
            key=str(data["key"]),
            mime=str(data.get("mime") or "application/octet-stream"),
            size=int(data.get("size", 0)),
            path=str(data.get("path") or ""),
            description=str(data.get("description") or ""),
            source=str(data.get("source") or ""),
            time_created=int((data.get("time") or {}).get("created", 0)),
        )
