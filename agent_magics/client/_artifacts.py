"""The artifacts of a session: the same three calls for both faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_magics.wire import Artifact

from ._errors import NotText, SessionNotFound
from ._protocol import parse, session_path

if TYPE_CHECKING:
    from ._api import Api
    from ._async_session import AsyncSessionHandle
    from ._sync import Client

__all__ = ["Artifacts", "AsyncArtifacts", "text_of"]


class AsyncArtifacts:
    """What an async session handle can do with artifacts."""

    id: str
    _api: Api

    async def list_artifacts(self) -> list[Artifact]:
        """What the agent published and what lies in /workspace/artifacts, by key."""
        await self._api.require_engine("artifacts")
        found = await self._api.get_json(session_path(self.id, "artifact"), missing=SessionNotFound)
        return parse(lambda: [Artifact.from_json(artifact) for artifact in found])

    async def get_artifact(self, key: str) -> str:
        """An artifact that is text. Raises `ArtifactNotFound`, `NotText`."""
        data = await self.get_artifact_buffer(key)
        return text_of(data, f"The artifact {key}", "get_artifact_buffer()")

    async def get_artifact_buffer(self, key: str) -> bytes:
        """The exact bytes of an artifact. Raises `ArtifactNotFound`."""
        await self._api.require_engine("artifacts")
        path = session_path(self.id, "artifact", key)
        return (await self._api.request("GET", path, missing=SessionNotFound)).content


class Artifacts:
    """What a sync session handle can do with artifacts."""

    _client: Client
    _core: AsyncSessionHandle

    def list_artifacts(self) -> list[Artifact]:
        """What the agent published and what lies in /workspace/artifacts, by key."""
        return self._client.run(self._core.list_artifacts())

    def get_artifact(self, key: str) -> str:
        """An artifact that is text. Raises `ArtifactNotFound`, `NotText`."""
        return self._client.run(self._core.get_artifact(key))

    def get_artifact_buffer(self, key: str) -> bytes:
        """The exact bytes of an artifact. Raises `ArtifactNotFound`."""
        return self._client.run(self._core.get_artifact_buffer(key))


def text_of(data: bytes, what: str, method: str) -> str:
    """`data` as text. Raises `NotText`, which names the `method` for its bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(f"{what} is not UTF-8 text; {method} has its bytes.") from error
