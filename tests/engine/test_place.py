"""What the model is told of where it works is true in each session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._network_config import NetworkConfig
from tests.support.engine_harness import Harness, engine_in, say


async def told(harness: Harness, **wanted: Any) -> str:
    harness.model.steps = [say("Hello.")]
    await harness.turn(await harness.session(**wanted))
    return harness.model.infos[-1].instructions or ""


@pytest.mark.parametrize(
    ("config", "wanted", "line"),
    [
        (NetworkConfig(), None, "- No network: commands can download and install nothing."),
        (
            NetworkConfig(on=True, allow=("python",)),
            ("data.example.org",),
            "- Commands reach these hosts: python (pypi.org, files.pythonhosted.org), "
            "data.example.org; the user is asked about all others.",
        ),
        (
            NetworkConfig(on=True, ask=False),
            True,
            "- No host is open to commands by itself; all others are refused.",
        ),
        (
            NetworkConfig(on=True, allow=tuple(f"h{n}.example.org" for n in range(23))),
            True,
            "h19.example.org and 3 more; the user is asked about all others.",
        ),
    ],
)
async def test_the_network(tmp_path: Path, config: NetworkConfig, wanted: Any, line: str) -> None:
    async with engine_in(tmp_path, network=config) as harness:
        text = await told(harness, network=wanted)
        assert line in text and "webfetch reads public web pages" in text
        assert ("No network" in text) == (not config.on)


async def test_without_a_container_the_network_is_the_machines(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        text = await told(harness, sandbox="local")
        assert "Commands have the network of the machine." in text and "No network" not in text
        assert "This session has no container" in text and "A Linux container" not in text


async def test_the_packages_of_the_users_python(tmp_path: Path) -> None:
    site = tmp_path / "env/lib/python3.12/site-packages"
    for name in ("numpy-2.1.dist-info", "Scikit_Learn-1.5.dist-info", "odd-1.egg-info", "numpy"):
        (site / name).mkdir(parents=True)
    python = {"executable": f"{tmp_path}/env/bin/python", "prefixes": [f"{tmp_path}/env"]}
    async with engine_in(tmp_path / "data") as harness:
        assert "packages: numpy, scikit-learn and 1 more." in await told(harness, python=python)
        (site / "pandas-3.0.dist-info").mkdir()
        assert "packages: numpy, pandas, scikit-learn and 1" in await told(harness, python=python)
        assert "python3 is the container's own." in await told(harness)
        bare = {**python, "prefixes": [str(tmp_path / "nothing")]}
        assert "no packages beyond the standard library" in await told(harness, python=bare)


async def test_the_notebook(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        text = await told(harness)
        assert "@name" in text and "--with name" in text and "%agent_put" in text
