"""Artifacts through both faces of the client, over real HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_magics.client import ArtifactNotFound, NotText, SessionNotFound
from agent_magics.wire import Artifact, ArtifactCreated
from tests.support.engine_harness import call, engine_in, say
from tests.support.served_client import clients_of

DATA = b"\xff\x00" * 1000


async def test_both_faces(tmp_path: Path, short_dir: Path) -> None:
    key = "plots/ä #1?.bin"
    steps = [call(("artifact", {"path": "a.bin", "key": key})), say("Done.")]
    async with (
        engine_in(tmp_path, steps) as harness,
        clients_of(harness, short_dir) as (client, sync),
    ):
        session = await client.create_session()
        await session.put_file("a.bin", DATA)
        events = [event async for event in session.stream("go")]
        (created,) = [e.artifact for e in events if isinstance(e, ArtifactCreated)]
        await session.put_file("/workspace/artifacts/note.md", "# Ä")
        artifacts = await session.list_artifacts()
        note, published = artifacts
        assert published == created
        assert published.time_created > 0
        assert published == Artifact(
            key=key,
            size=len(DATA),
            path="/workspace/a.bin",
            source="published",
            time_created=published.time_created,
        )
        assert (note.key, note.mime, note.source) == ("note.md", "text/markdown", "folder")
        assert await session.get_artifact_buffer(key) == DATA
        assert await session.get_artifact("note.md") == "# Ä"
        with pytest.raises(NotText, match="get_artifact_buffer"):
            await session.get_artifact(key)
        for missing in ("none", "..", ".", "../a.bin", "/workspace/a.bin", ""):
            with pytest.raises(ArtifactNotFound, match=r"There is: note\.md") as caught:
                await session.get_artifact(missing)
            assert caught.value.data["keys"] == ["note.md", key]
        with pytest.raises(SessionNotFound):
            await client.session("ses_nobody").list_artifacts()

        def ask() -> tuple[list[Artifact], bytes, str]:
            same = sync.session(session.id)
            found = same.list_artifacts()
            return found, same.get_artifact_buffer(key), same.get_artifact("note.md")

        assert await asyncio.to_thread(ask) == (artifacts, DATA, "# Ä")
