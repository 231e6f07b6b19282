"""The scripted model server as what a kernel needs to use it instead of a real one."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tests.support.scripted_llm import ThreadedLLM


class ScriptedModel:
    """`scenarios`: {name: {"match": regex of the prompt, "turns": [{"do": [...]}, ...]}}."""

    def __init__(self, scenarios: dict[str, Any]) -> None:
        self._server = ThreadedLLM({"scenarios": scenarios})

    @property
    def environ(self) -> dict[str, str]:
        return {
            "OPENAI_BASE_URL": self._server.base_url,
            "OPENAI_API_KEY": "sk-test",
            "AGENT_MAGICS_MODEL": "openai/scripted",
        }

    @property
    def log(self) -> list[dict[str, Any]]:
        """One entry per request: scenario, turn, outcome, body."""
        return self._server.log

    def wait_outcome(self, scenario: str, *, patience: float = 10.0) -> str:
        """How the first request of a scenario ended."""
        end = time.monotonic() + patience
        while True:
            for entry in self.log:
                if entry.get("scenario") == scenario and entry["outcome"] != "running":
                    return str(entry["outcome"])
            assert time.monotonic() < end, f"{scenario} is still running"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> ScriptedModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


StartModel = Callable[[dict[str, Any]], ScriptedModel]
