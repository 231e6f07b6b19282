"""The Stop button, for code that runs in the test's own process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any


def stop_when(condition: Callable[[], Any]) -> None:
    """Press Stop as soon as the condition holds."""

    def press() -> None:
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
