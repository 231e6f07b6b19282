"""A provider of containers by configuration, by variable and by session, through a real engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.client import BadRequest, Client, SandboxUnavailable
from tests.support.engine_home import EngineHome
from tests.support.kernels import ROOT


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Of an engine that finds programs called podman and docker, which have no images."""
    for name in ("podman", "docker"):
        program = tmp_path / name
        program.write_text(
            '#!/bin/sh\n[ "$1" = run ] || exit 0\necho "No such image" >&2\nexit 125\n'
        )
        program.chmod(0o755)
    with EngineHome() as home:
        (home.root / "config.toml").write_text(
            '[sandbox]\nprovider = "podman"\n[sandbox.podman]\nimage = "img:1"\n'
            '[sandbox.docker]\nimage = "img:2"\n[sandbox.kubernetes]\nkubeconfig = "/nowhere"\n'
        )
        for name, value in home.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("AGENT_MAGICS_SANDBOX", raising=False)
        with Client() as client:
            yield client


def test_names_and_settings_arrive(client: Client) -> None:
    for provider, message in (
        (None, r"image img:1 is not on this machine.* podman pull img:1"),
        ("docker", r"image img:2 is not on this machine.* docker pull img:2"),
        ("kubernetes", r"No cluster is configured|pip install 'agent-magics\[kubernetes\]'"),
    ):
        with pytest.raises(SandboxUnavailable, match=message):
            client.create_session(sandbox=provider)
    names = "auto, bubblewrap, podman, docker, kubernetes, local"
    with pytest.raises(BadRequest, match=names):
        client.create_session(sandbox="lxc")
