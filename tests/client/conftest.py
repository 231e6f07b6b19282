from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.wire import MODEL_ENVIRON
from tests.support.fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*MODEL_ENVIRON, *os.environ]:
        if name in MODEL_ENVIRON or name.startswith("AGENT_MAGICS_"):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory whose path fits into a socket's address, unlike `tmp_path` at times."""
    path = Path(tempfile.mkdtemp(prefix="am-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def engine(short_dir: Path) -> Iterator[FakeEngine]:
    with FakeEngine(short_dir) as fake:
        yield fake
