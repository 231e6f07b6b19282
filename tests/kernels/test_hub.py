"""The JupyterLab extension's panel against real kernels, the real engine and the demo model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_front import HubFront
from tests.support.kernel import FrontEnd, kernel_pythons, started

pytestmark = [pytest.mark.kernel, pytest.mark.container]

_KERNELS = kernel_pythons()


@pytest.fixture(scope="module", params=list(_KERNELS.values()), ids=list(_KERNELS))
def kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontEnd]:
    """One kernel and one engine for all of this; each test has a session of its own."""
    directory = tmp_path_factory.mktemp("hub")
    config = directory / "config.toml"
    config.touch()
    environ = {
        "AGENT_MAGICS_CONFIG": str(config),
        "AGENT_MAGICS_MODEL": "demo/guide",
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
    }
    with started(request.param, directory, environ) as front_end:
        assert front_end.run("%load_ext agent_magics") == ""
        yield front_end
        try:
            os.kill(json.loads((front_end.state_dir / "engine.json").read_text())["pid"], 9)
        except (FileNotFoundError, ProcessLookupError):
            pass


def test_a_turn_is_seen_and_answered_while_its_cell_runs(kernel: FrontEnd) -> None:
    page = HubFront(kernel)
    page.attach()
    assert page.state["status"] == "none"
    cell = kernel.execute("%%agent --new\nlook around")

    (asked,) = page.until(status="waiting")["permissions"]
    assert "asks to run a command" in asked["title"]
    assert asked["blocks"][-1]["text"]
    after_reload = HubFront(kernel, "reloaded")
    after_reload.attach()
    assert after_reload.until(status="waiting")["permissions"] == [asked]
    assert kernel.reply(cell) is None

    assert after_reload.act("reply", {"id": asked["id"], "reply": "once"})["ok"] is True
    kernel.until(lambda: kernel.is_done(cell))
    for front in (page, after_reload):
        state = front.until(status="ready", permissions=[])
    assert state["session"]["model"] == "demo/guide"
    assert state["metrics"]["toolCalls"] >= 1
    assert len(state["history"]) == 1
    late = page.act("reply", {"id": asked["id"], "reply": "once"})
    assert late["ok"] is False
    assert late["message"]


def test_a_turn_is_aborted_while_any_other_cell_runs(kernel: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    kernel.run("%%agent -b --new\nlook around")
    busy = kernel.execute(
        f"import time, pathlib\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    )
    page = HubFront(kernel, "late")
    page.attach()
    page.until(status="waiting")
    assert page.act("abort")["value"] == {"stopped": True}
    page.until(status="ready", permissions=[])
    assert kernel.reply(busy) is None
    gate.touch()
    kernel.until(lambda: kernel.is_done(busy))


def test_sessions_and_files_by_the_panel(kernel: FrontEnd) -> None:
    page = HubFront(kernel, "files")
    page.attach()
    first = page.act("new", {"title": "first \u202e"})["value"]["id"]
    shown = "first ⟦U+202E⟧"
    kernel.until(lambda: page.session.get("title") == shown, what="its title, made visible")
    page.act("rename", {"title": "the first"})
    piece, path = bytes(range(256)) * 4, "/workspace/in/data.bin"
    upload = {"path": path, "transfer": "t", "offset": 0}
    page.act("write", upload, piece)
    page.act("write", {**upload, "offset": len(piece), "last": True}, b"end")
    assert page.act("list", {"path": "/workspace"})["value"]["entries"][0]["name"] == "in"
    got = page.act("read", {"path": path, "transfer": "d", "offset": 0})
    assert got["value"] == {"size": len(piece) + 3}
    assert got["buffers"] == [piece + b"end"]
    missing = page.act("read", {"path": "/workspace/none", "transfer": "e", "offset": 0})
    assert missing["ok"] is False

    page.act("fork")
    kernel.until(lambda: page.session.get("id", first) != first, what="the copy")
    copy = page.session["id"]

    def listed() -> set[str]:
        return {one["id"] for one in page.state["sessions"]}

    kernel.until(lambda: {first, copy} <= listed(), what="both sessions")
    assert page.act("use", {"id": first})["ok"] is True
    kernel.until(lambda: page.session.get("title") == "the first", what="the first again")
    assert kernel.run("print(__import__('agent_magics').current_session().id)") == f"{first}\n"
    assert page.act("end", {"session": copy})["ok"] is True
    kernel.until(lambda: first in listed() and copy not in listed(), what="the copy's end")
    page.act("end")
    page.until(status="none", session=None)


def test_what_is_no_request_and_the_end(kernel: FrontEnd) -> None:
    page = HubFront(kernel, "unloaded")
    assert page.send("explode")[1]["message"] == "there is no action 'explode'"
    bad = kernel.send("agent_magics_request", {"client": 3}, channel="control")
    reply = kernel.until(lambda: kernel.reply(bad))
    assert reply["content"]["status"] == "error"
    page.attach()
    assert kernel.run("%unload_ext agent_magics") == ""
    kernel.until(lambda: page.comm_id not in kernel.comms, what="comm_close")
    assert kernel.run("%load_ext agent_magics") == ""
    again = HubFront(kernel, "loaded")
    again.attach()
    assert again.state["status"] == "none"
