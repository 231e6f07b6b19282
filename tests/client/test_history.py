"""Reverts, forks and diffs as the client sees them, on a server that only plays its part."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from agent_magics.client import (
    AsyncClient,
    Busy,
    MessageNotFound,
    ProtocolError,
    RevertConflict,
    SessionNotFound,
)
from agent_magics.wire import ArtifactChange, FileDiff, RevertPreview, RevertResult, SkippedFile

DIFF = {"file": "f", "patch": "+a\n", "additions": 1, "deletions": 0, "status": "added"}
DONE = {
    "messageID": "msg_2",
    "messages": 2,
    "files": [DIFF],
    "conflicts": ["g"],
    "skipped": [{"path": "big", "reason": "larger than the limit of snapshots"}],
    "artifacts": [{"key": "report.md", "status": "deleted"}],
}
FILE = FileDiff("f", "added", 1, 0, "+a\n")
SKIPPED = SkippedFile("big", "larger than the limit of snapshots")
ARTIFACTS = (ArtifactChange("report.md", "deleted"),)


class Server:
    """Answers by path; `asked` has the requests that were no look at the server itself."""

    def __init__(self, *, plain: bool = False) -> None:
        self.health: dict[str, Any] = {"healthy": True, "version": "1"}
        if not plain:
            self.health |= {"engine": "agent-magics", "protocol": 1}
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/global/health":
            return httpx.Response(200, json=self.health)
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.raw_path.decode(), body))
        status, answer = self.answers[request.url.path]
        return httpx.Response(status, json=answer)

    def client(self) -> AsyncClient:
        return AsyncClient("http://agent", transport=httpx.MockTransport(self))


def error(name: str, **data: Any) -> dict[str, Any]:
    return {"name": name, "data": {"message": "no", **data}}


async def test_revert() -> None:
    server = Server()
    server.answers["/session/ses_1/revert"] = (200, {"id": "ses_1", "reverted": DONE})
    async with server.client() as client:
        done = await client.session("ses_1").revert("msg_3")
    assert done == RevertResult("msg_2", 2, (FILE,), (SKIPPED,), ARTIFACTS)
    assert server.asked == [("POST", "/session/ses_1/revert", {"messageID": "msg_3"})]


async def test_preview() -> None:
    server = Server()
    server.answers["/session/ses_1/revert"] = (200, DONE)
    async with server.client() as client:
        shown = await client.session("ses_1").revert("msg_3", preview=True)
    assert shown == RevertPreview("msg_2", 2, (FILE,), (SKIPPED,), ("g",), ARTIFACTS)
    assert server.asked[0][1] == "/session/ses_1/revert?preview=true"


async def test_the_rest() -> None:
    server = Server()
    server.answers["/session/ses_1/unrevert"] = (200, {"id": "ses_1"})
    server.answers["/session/ses_1/diff"] = (200, [DIFF, {"additions": 0, "deletions": 0}])
    server.answers["/session/ses_1/fork"] = (200, {"id": "ses_2"})
    async with server.client() as client:
        session = client.session("ses_1")
        await session.unrevert()
        assert await session.get_diff("msg_1") == [FILE, FileDiff("")]
        await session.get_diff()
        assert (await client.fork_session("ses_1")).id == "ses_2"
        await client.fork_session("ses_1", "msg_1")
    assert [path for _, path, _ in server.asked[1:3]] == [
        "/session/ses_1/diff?messageID=msg_1",
        "/session/ses_1/diff",
    ]
    assert [body for _, _, body in server.asked[3:]] == [{}, {"messageID": "msg_1"}]


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (404, error("MessageNotFoundError", messageID="msg_1"), MessageNotFound),
        (404, error("NotFoundError"), SessionNotFound),
        (409, error("SessionBusyError"), Busy),
        (409, error("RevertConflictError", paths=["a", "b"]), RevertConflict),
        (200, {"id": "ses_1"}, ProtocolError),
    ],
)
async def test_errors(status: int, answer: Any, kind: type[Exception]) -> None:
    server = Server()
    server.answers["/session/ses_1/revert"] = (status, answer)
    async with server.client() as client:
        with pytest.raises(kind) as caught:
            await client.session("ses_1").revert("msg_1")
    if isinstance(caught.value, RevertConflict):
        assert caught.value.paths == ("a", "b")


def message(id: str) -> dict[str, Any]:
    return {"info": {"id": id, "sessionID": "ses_1", "role": "user"}, "parts": []}


async def test_a_plain_opencode_server() -> None:
    """It lists what is reverted, takes unknown ids and knows no preview."""
    server = Server(plain=True)
    listed = [message("msg_1"), message("msg_2"), message("msg_3")]
    server.answers["/session/ses_1/message"] = (200, listed)
    server.answers["/session/ses_1"] = (200, {"id": "ses_1"})
    reverted = {"id": "ses_1", "revert": {"messageID": "msg_2"}}
    server.answers["/session/ses_1/revert"] = (200, reverted)
    async with server.client() as client:
        session = client.session("ses_1")
        with pytest.raises(MessageNotFound):
            await session.revert("msg_9")
        with pytest.raises(ProtocolError, match="no preview"):
            await session.revert("msg_2", preview=True)
        assert await session.revert("msg_2") == RevertResult("msg_2")
        server.answers["/session/ses_1"] = (200, reverted)
        assert [m.info.id for m in await session.get_messages()] == ["msg_1"]
