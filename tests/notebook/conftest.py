from __future__ import annotations

import atexit
import io
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under `pytest -s`: nobody is asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())


@pytest.fixture
def shell() -> Iterator[Any]:
    """A real `InteractiveShell` of its own, without kernel and terminal."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.AgentMagics.warm_up = False
    InteractiveShell.clear_instance()
    instance = InteractiveShell.instance(config=config)
    yield instance
    instance.atexit_operations()
    atexit.unregister(instance.atexit_operations)
    InteractiveShell.clear_instance()
