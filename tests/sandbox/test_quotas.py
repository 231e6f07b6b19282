"""A container's part of what is counted per user, and the number of its files."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_magics.sandbox import Limits
from agent_magics.sandbox import _disk as disk
from agent_magics.sandbox._agent import watchdog
from agent_magics.sandbox._disk import DiskWatch
from agent_magics.sandbox._provider import agent_config
from agent_magics.sandbox._quotas import quota_config, user_quotas


def test_a_container_gets_an_eighth(tmp_path: Path) -> None:
    values = {
        "max_inotify_instances": "128\n",
        "max_inotify_watches": "65536\n",
        "max_user_namespaces": "15000\n",
        "max_something": "no number",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value)
    assert user_quotas(tmp_path) == {
        "max_inotify_instances": 16,
        "max_inotify_watches": 8192,
        "max_user_namespaces": 0,
    }
    (tmp_path / "max_inotify_instances").write_text("20")
    assert user_quotas(tmp_path)["max_inotify_instances"] == 16  # what a program needs
    (tmp_path / "max_inotify_instances").write_text("4")
    assert user_quotas(tmp_path)["max_inotify_instances"] == 4
    assert user_quotas(tmp_path / "missing") == {}
    assert quota_config(None)["rlimits"]["sigpending"] <= 1024


def test_fewer_descriptors_than_an_ordinary_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Limits().open_files == 512
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Limits().open_files == 4096


def test_files_go_with_the_disk() -> None:
    assert Limits().most_files == 200_000
    assert Limits(disk=300 << 20).most_files == 19_200
    assert Limits(disk=16 << 20).most_files == 10_000
    assert Limits(disk=16 << 20, files=100).most_files == 100
    assert Limits(disk=16 << 20, files=None).most_files is None
    assert Limits(disk=None).most_files == 200_000


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "as on btrfs"])
async def test_many_files_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    monkeypatch.setattr(disk, "INTERVAL", 0.01)
    real = os.statvfs

    def statvfs(path: Path) -> SimpleNamespace:
        found = real(path)
        number = 10**6 if counts else 0
        used = len(os.listdir(tmp_path)) if counts else 0
        return SimpleNamespace(
            f_bavail=found.f_bavail,
            f_frsize=found.f_frsize,
            f_files=number,
            f_ffree=number - used,
            f_favail=number - used,
        )

    monkeypatch.setattr(disk.os, "statvfs", statvfs)
    said: list[str] = []
    watch = DiskWatch(tmp_path, Limits(files=1000, disk=1 << 40), said.append)
    watch.resume()
    await asyncio.sleep(0)
    for number in range(900):
        (tmp_path / f"{number}").touch()
    for number in range(900, 1400):
        (tmp_path / f"{number}").touch()
        if number % 50 == 0:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(30):
        while not said:
            await asyncio.sleep(0.01)
    assert set(said) == {"files"}
    watch.pause()
    said.clear()
    watch.resume()  # cleaning up is no offence
    for number in range(700):
        (tmp_path / f"{number}").unlink()
        if number % 100 == 0:
            await asyncio.sleep(0.02)
    assert said == []
    watch.pause()


def test_only_memory_is_watched_for_its_files(tmp_path: Path) -> None:
    """Where `/tmp` is a directory of a disk, other programs' files would end the commands."""
    assert watchdog.is_memory("/dev/shm")
    assert not watchdog.is_memory(str(tmp_path)) and not watchdog.is_memory("/proc")


def test_full_epoll_sets_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    config = agent_config(Limits(), workspace="/", tmp="/tmp", isolated=True)
    config["folders"] = {}
    watching = watchdog.Watchdog(config)
    assert watching.excess() != "open files"

    class Full:
        def register(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(watching, "_probe", Full())
    assert watching.excess() == "open files"


def test_crowded_memory_is_noticed_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    config = agent_config(Limits(shared_memory=1 << 20), workspace="/", tmp="/tmp", isolated=True)
    watching = watchdog.Watchdog(config)
    used = 1
    monkeypatch.setattr(
        watchdog.os, "statvfs", lambda _: SimpleNamespace(f_files=9000, f_ffree=9000 - used)
    )
    assert watching.excess() is None
    used = 1001
    assert watching.excess() == "files"
    used = 1000
    assert watching.excess() is None
