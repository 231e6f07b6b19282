"""Sessions with a past: turns that change files, and the requests that take them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agent_magics.engine._sessions import Session
from agent_magics.wire import RevertPreview, RevertResult
from tests.support.engine_harness import Harness, Step, call, say

ALLOWED = [{"permission": "*", "pattern": "*", "action": "allow"}]


def sh(command: str) -> Step:
    return call(("bash", {"command": command}))


def turns(*commands: str) -> list[Step]:
    """A turn that runs the command for each of them."""
    return [step for command in commands for step in (sh(command), say("done"))]


async def allowed(harness: Harness) -> Session:
    return await harness.session(rules=ALLOWED)


async def run(harness: Harness, session: Session, count: int = 1) -> list[str]:
    """That many turns; the ids of their prompts."""
    return [(await harness.turn(session, f"prompt {i}"))["messageID"] for i in range(count)]


async def post(harness: Harness, session: Session, path: str, **body: Any) -> Any:
    response = await harness.http.post(f"/session/{session.id}/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def revert(harness: Harness, session: Session, message_id: str) -> RevertResult:
    answer = await post(harness, session, "revert", messageID=message_id)
    return RevertResult.from_json(answer["reverted"])


async def preview(harness: Harness, session: Session, message_id: str) -> RevertPreview:
    answer = await post(harness, session, "revert?preview=1", messageID=message_id)
    return RevertPreview.from_json(answer)


async def messages(harness: Harness, session: Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await harness.http.get(f"/session/{session.id}/message")).json()
    return found


def workspace(harness: Harness) -> Path:
    return harness.sandboxes[0].workspace


def prompts_seen(harness: Harness) -> list[str]:
    """The prompts that the model saw with its last request."""
    parts = [p for m in harness.model.seen[-1] for p in m.parts if p.part_kind == "user-prompt"]
    return [str(p.content if isinstance(p.content, str) else p.content[0]) for p in parts]


CHANGES = r"""
printf 'new\n' > changed; rm gone; chmod 600 private; rm -r old; mkdir -p fresh/deep empty2
printf '\000\001\377' > fresh/deep/binary; rm link; ln -s elsewhere link; ln -s fresh other
mkdir now_directory.tmp; rm now_directory; mv now_directory.tmp now_directory; rmdir was_directory
printf x > was_directory; mkdir -p repo/.git/objects; printf ref > repo/.git/HEAD; chmod 700 kept
"""


def furnish(root: Path) -> None:
    """Files of all kinds."""
    (root / "changed").write_text("old\n")
    (root / "gone").write_bytes(bytes(range(256)) * 999)
    (root / "private").write_text("p")
    (root / "old/er/est").mkdir(parents=True)
    (root / "old/er/script").write_text("#!/bin/sh\n")
    (root / "old/er/script").chmod(0o4755)
    (root / "old/empty").mkdir(mode=0o711)
    (root / "link").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    (root / "now_directory").write_text("a file")
    (root / "was_directory").mkdir()
    (root / "kept").mkdir(mode=0o755)
    (root / ".ignored").write_text("x")
    (root / ".gitignore").write_text(".ignored\n")
    with open(os.path.join(os.fsencode(root), b"no\xfftext"), "wb") as file:
        file.write(b"\xff")
