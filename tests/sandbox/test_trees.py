"""Measuring, handing over and removing trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_magics.sandbox._trees import adopt_tree, disk_usage, remove_tree


def test_disk_usage(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/big").write_bytes(bytes(5 << 20))
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "loop").symlink_to(".")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    size, entries = disk_usage(tmp_path)
    assert 5 << 20 <= size < 6 << 20
    assert entries == 6
    assert disk_usage(tmp_path / "missing") == (0, 0)
    assert disk_usage(tmp_path / "link") == (0, 0)


def test_remove_names_that_collide_with_ours(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in (".removed-0", "x/.removed-0", "x/.removed-1/y", "x/z"):
        (top / name).mkdir(parents=True)
    (top / ".removed-1").write_text("file")
    (top / ".removed-2").symlink_to(tmp_path)
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_remove_nothing(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")


def test_remove_refuses_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "real/file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over files")
def test_adopt(tmp_path: Path) -> None:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "outside").write_text("x")
    (tmp_path / "tree/inner/own").write_text("x")
    (tmp_path / "tree/link").symlink_to(tmp_path / "outside")
    os.link(tmp_path / "outside", tmp_path / "tree/second-name")
    adopt_tree(tmp_path / "tree", 1_900_000_123)
    for name, uid in (
        ("tree", 1_900_000_123),
        ("tree/inner/own", 1_900_000_123),
        ("tree/link", 1_900_000_123),
        ("outside", 0),
    ):
        assert (tmp_path / name).lstat().st_uid == uid
