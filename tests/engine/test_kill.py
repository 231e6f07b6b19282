"""SIGKILL at random moments, many times: nothing acknowledged is lost, all stays legal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 200
SEED = 20261122


def test_two_hundred_kills(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.kill_rounds", tmp_path, ROUNDS, SEED]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-5000:]
    prompts, events = map(int, done.stdout.split())
    assert prompts > ROUNDS
    assert events > 20 * ROUNDS
