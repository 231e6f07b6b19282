"""SIGKILL at random moments, two hundred times: nothing acknowledged is lost, all stays legal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 40


@pytest.mark.parametrize("seed", range(5))
def test_kills(tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", "tests.support.kill_rounds", tmp_path, ROUNDS, seed]
    # Not traced: what is killed leaves no coverage behind, and tracing makes it slow.
    environ = {name: text for name, text in os.environ.items() if "COV" not in name}
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    prompts, events = map(int, done.stdout.split())
    assert prompts > ROUNDS
    assert events > 20 * ROUNDS
