"""Artifacts: published copies that stay, the live folder, and keys that lead nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.engine import _artifacts
from agent_magics.engine._artifacts import ArtifactError, artifact_key, default_key
from tests.support.engine_harness import Harness, Step, call, engine_in, say
from tests.support.fake_sandbox import FakeSandbox

DATA = bytes(range(256))


def publish(**arguments: Any) -> Step:
    return call(("artifact", arguments))


async def get(harness: Harness, session_id: str, key: str) -> httpx.Response:
    return await harness.http.get(f"/session/{session_id}/artifact/{key}")


async def keys(harness: Harness, session_id: str) -> list[str]:
    listed = await harness.http.get(f"/session/{session_id}/artifact")
    return [artifact["key"] for artifact in listed.json()]


def outputs(harness: Harness) -> list[str]:
    states = [part["state"] for part in harness.recorder.parts("tool")]
    return [state.get("output") or state.get("error") for state in states]


async def test_a_published_artifact_stays_as_it_was(tmp_path: Path) -> None:
    path = "/workspace/out/mass.png"
    steps = [publish(path=path, description=" The\nchart "), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        workspace = harness.sandboxes[0].workspace
        (workspace / "out").mkdir()
        (workspace / "out" / "mass.png").write_bytes(DATA)
        await harness.turn(session)
        created = (await harness.recorder.wait("artifact.created"))["properties"]["artifact"]
        assert (created["key"], created["path"], created["size"]) == ("mass.png", path, 256)
        assert (created["mime"], created["description"]) == ("image/png", "The chart")
        (part,) = harness.recorder.parts("tool")
        assert part["state"]["metadata"]["artifact"] == created
        assert part["state"]["title"] == "out/mass.png"
        (workspace / "out" / "mass.png").write_bytes(b"other")
        response = await get(harness, session.id, "mass.png")
        assert response.content == DATA and response.headers["content-type"] == "image/png"
        assert response.headers["content-security-policy"] == "sandbox"
        listed = (await harness.http.get(f"/session/{session.id}/artifact")).json()
        assert listed == [created]
        assert harness.recorder.of("permission.asked") == []


async def test_publishing_again_replaces(tmp_path: Path) -> None:
    steps = [
        publish(path="a.txt", key="plots/ä b.txt"),
        publish(path="b.txt", key="plots/ä b.txt"),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        for name in ("a.txt", "b.txt"):
            (harness.sandboxes[0].workspace / name).write_text(name)
        await harness.turn(session)
        assert await keys(harness, session.id) == ["plots/ä b.txt"]
        for key in ("plots/ä b.txt", "plots%2F%C3%A4%20b.txt"):
            assert (await get(harness, session.id, key)).text == "b.txt"
        assert len(harness.recorder.of("artifact.created")) == 2


async def test_the_folder_is_live(tmp_path: Path) -> None:
    steps = [publish(path="/workspace/artifacts/sub/a.csv"), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        assert await keys(harness, session.id) == []
        folder = harness.sandboxes[0].workspace / "artifacts"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.csv").write_text("1")
        (folder / "b.csv").write_text("2")
        (folder / "link").symlink_to("/etc/passwd")
        (folder / "bad\udcff").write_text("3")
        assert await keys(harness, session.id) == ["b.csv", "bad\\xff", "sub/a.csv"]
        assert (await get(harness, session.id, "bad%5Cxff")).text == "3"
        assert (await get(harness, session.id, "sub/a.csv")).text == "1"
        await harness.turn(session)
        (folder / "sub" / "a.csv").write_text("changed")
        (folder / "b.csv").write_text("changed")
        assert (await get(harness, session.id, "sub/a.csv")).text == "1"
        assert (await get(harness, session.id, "b.csv")).text == "changed"
        assert (await get(harness, session.id, "sub")).status_code == 404


async def test_unknown_keys_are_told_what_there_is(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await harness.session()
        missing = (await get(harness, session.id, "x")).json()
        assert missing["name"] == "ArtifactNotFoundError"
        assert missing["data"]["message"] == "There is no artifact x. This session has none."
        await harness.sandboxes[0].write_file("/workspace/artifacts/a", b"")
        await harness.sandboxes[0].write_file("/workspace/secret", b"")
        for key in ("x", "%2e%2e/secret", "%2Fetc/passwd", "a/", "a/b"):
            missing = (await get(harness, session.id, key)).json()
            assert missing["data"]["keys"] == ["a"], key


async def test_what_cannot_be_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifacts, "LARGEST_ARTIFACT", 100)
    monkeypatch.setattr(_artifacts, "LARGEST_TOTAL", 150)
    steps = [
        publish(path="none"),
        publish(path="large"),
        publish(path="small", key="../x"),
        publish(path="small", key="one"),
        publish(path="small", key="two"),
        publish(path="small", key="one"),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        (harness.sandboxes[0].workspace / "large").write_bytes(b"x" * 101)
        (harness.sandboxes[0].workspace / "small").write_bytes(b"x" * 90)
        ended = await harness.turn(session)
        assert ended["outcome"] == "completed"
        missing, large, bad, first, full, again = outputs(harness)
        assert "none does not exist" in missing
        assert "too large to be published" in large and "/workspace/artifacts" in large
        assert "without `.`, `..`" in bad
        assert first == again == "Published /workspace/small as the artifact one: 90 bytes."
        assert "would have more than" in full
        assert await keys(harness, session.id) == ["one"]


async def test_artifacts_outlive_the_engine_and_end_with_the_session(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [publish(path="a"), say("Done.")]) as harness:
        session = await harness.session()
        other = await harness.session()
        (harness.sandboxes[0].workspace / "a").write_bytes(DATA)
        await harness.turn(session)
    async with engine_in(tmp_path) as harness:
        assert (await get(harness, session.id, "a")).content == DATA
        assert (await get(harness, other.id, "a")).status_code == 404
        await harness.http.delete(f"/session/{session.id}")
        assert await harness.engine.store.read("SELECT key FROM artifact_version") == []


async def test_a_fork_has_its_own(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [publish(path="a"), say("Done.")]) as harness:
        session = await harness.session()
        (harness.sandboxes[0].workspace / "a").write_bytes(DATA)
        await harness.turn(session)
        fork = (await harness.http.post(f"/session/{session.id}/fork", json={})).json()["id"]
        await harness.http.delete(f"/session/{session.id}")
        assert (await get(harness, fork, "a")).content == DATA


async def test_published_ones_need_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_in(tmp_path, [publish(path="a"), say("Done.")]) as harness:
        session = await harness.session()
        (harness.sandboxes[0].workspace / "a").write_bytes(DATA)
        await harness.turn(session)
        harness.sandboxes[0].alive = False
        monkeypatch.setattr(FakeSandbox, "unavailable", "User namespaces are off.")
        assert (await get(harness, session.id, "a")).content == DATA
        assert (await get(harness, session.id, "b")).status_code == 503


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\0", "a\n", "\ud800", "x" * 201]
)
def test_bad_keys(key: str) -> None:
    with pytest.raises(ArtifactError):
        artifact_key(key)


@pytest.mark.parametrize(
    ("path", "key"),
    [("a.txt", "a.txt"), ("/tmp/x/a", "a"), ("artifacts/p/a", "p/a"), ("artifacts/../b", "b")],
)
def test_default_keys(path: str, key: str) -> None:
    assert default_key(path) == artifact_key(key) == key
