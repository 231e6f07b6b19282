"""What podman and docker are asked for, and what is made of their complaints."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._config import EngineConfig
from agent_magics.sandbox import (
    Limits,
    Network,
    OciOptions,
    ProviderOptions,
    PythonEnv,
    Sandbox,
    SandboxUnavailable,
    open_sandbox,
)
from agent_magics.sandbox import _oci_cli as cli_module
from agent_magics.sandbox._oci_explain import explain
from agent_magics.sandbox._owner import engine_mark, is_alive, owner_mark

FAKE = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
folder = {folder!r}
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps([arguments, dict(os.environ)]) + "\\n")
if arguments[0] != "run":
    answer = os.path.join(folder, arguments[0])
    sys.exit(print(open(answer).read(), end="") if os.path.exists(answer) else None)
complaint = os.path.join(folder, "complaint")
if os.path.exists(complaint):
    sys.stderr.write(open(complaint).read())
    sys.exit(125)
at = arguments.index("--entrypoint")
os.execv(sys.executable, [sys.executable, *arguments[at + 3:]])
"""


class Fake:
    """Programs called podman and docker that note how they are called and run the agent program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("podman", "docker"):
            program = folder / name
            program.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)

    def calls(self) -> list[list[str]]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [json.loads(line)[0] for line in lines]

    def run(self) -> list[str]:
        (call,) = [call for call in self.calls() if call[0] == "run"]
        return call

    def environ(self) -> dict[str, str]:
        line = (self.folder / "calls").read_text().splitlines()[-1]
        environ: dict[str, str] = json.loads(line)[1]
        return environ

    def answers(self, command: str, text: str) -> None:
        (self.folder / command).write_text(text)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Fake(folder)


@pytest.fixture
def open_box(root: Path) -> Callable[..., Sandbox]:
    def open_one(provider: str = "podman", options: OciOptions | None = None, **more: Any) -> Any:
        options = options or OciOptions()
        both = ProviderOptions(podman=options, docker=options)
        return open_sandbox(root, provider=provider, options=both, **more)

    return open_one


def value(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


@pytest.mark.parametrize("provider", ["podman", "docker"])
async def test_what_is_asked_for(
    fake: Fake,
    open_box: Callable[..., Sandbox],
    root: Path,
    provider: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("DOCKER_HOST", "unix:///somewhere")
    limits = Limits(memory=1 << 30, processes=100, shared_memory=1 << 20)
    box = open_box(provider, OciOptions(image="img:1", arguments=("--gpus=all",)), limits=limits)
    assert (box.provider, box.isolated) == (provider, True)
    await box.start()
    assert (await box.run("echo $HOME", cwd="/")).stdout == b"/workspace\n"
    await box.stop()
    call = fake.run()
    for words in (
        *(["--network", "none"], ["--cap-drop", "ALL"], ["--security-opt", "no-new-privileges"]),
        *(["--pull", "never"], ["--log-driver", "none"], ["--workdir", "/workspace"]),
        ["--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={512 << 20}"],
        *(["--memory", str(1 << 30)], ["--pids-limit", "164"], ["--shm-size", str(1 << 20)]),
        ["--volume", f"{root}/workspace:/workspace:Z"],
        ["--gpus=all", "--workdir"],
        ["--entrypoint", "python3", "img:1", "-I", "-S", "-c"],
    ):
        assert any(call[i : i + len(words)] == words for i in range(len(call))), words
    assert {"--read-only", "--rm", "--interactive"} <= set(call)
    assert ("--http-proxy=false" in call) == (provider == "podman")
    assert "--privileged" not in call and "--init" not in call
    assert value(call, "--user") not in ("0:0", "root")
    assert value(call, "--name").startswith("agent-magics-session-")
    assert "OPENAI_API_KEY" not in fake.environ()
    assert fake.environ()["DOCKER_HOST"] == "unix:///somewhere"
    await box.destroy()
    assert not root.exists()


async def test_without_cgroups_and_limits(fake: Fake, open_box: Callable[..., Sandbox]) -> None:
    box = open_box(options=OciOptions(cgroup_limits=False))
    await box.start()
    await box.destroy()
    assert {"--memory", "--pids-limit"} & set(fake.run()) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the user is a throw-away one")
@pytest.mark.parametrize(
    ("provider", "security", "expected"),
    [
        ("podman", "", ["--userns", "keep-id", "--user", "1234:0"]),
        ("docker", '["name=seccomp"]', ["--user", "1234:0"]),
        ("docker", '["name=seccomp","name=rootless"]', ["--user", "0:0"]),
    ],
)
async def test_user_of_an_ordinary_user(
    fake: Fake,
    open_box: Callable[..., Sandbox],
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    security: str,
    expected: list[str],
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    fake.answers("info", security)
    box = open_box(provider)
    await box.start()
    await box.destroy()
    call = fake.run()
    at = call.index(expected[0])
    assert call[at : at + len(expected)] == expected


async def test_the_notebooks_python(
    fake: Fake, open_box: Callable[..., Sandbox], tmp_path: Path
) -> None:
    real = tmp_path / "versions/3"
    (real / "bin").mkdir(parents=True)
    (real / "lib/python3.11").mkdir(parents=True)
    (real / "bin/python").write_text("")
    (real / "lib64").symlink_to("lib")
    for secret in ("pip.conf", "lib/python3.11/.env"):
        (real / secret).write_text("password")
    (real / "pyvenv.cfg").write_text("home = /x\ncommand = secret\n")
    (tmp_path / "current").symlink_to("versions/3")
    prefix = f"{tmp_path}/current"
    python = PythonEnv(f"{prefix}/bin/python", (prefix,))
    box = open_box(options=OciOptions(python="host"), python=python)
    await box.start()
    assert (await box.run("echo $PATH", cwd="/")).stdout.startswith(f"{prefix}/bin:".encode())
    await box.stop()
    call = fake.run()
    volumes = {call[i + 1] for i, word in enumerate(call) if word == "--volume"}
    for part in ("bin", "lib"):
        assert {f"{real}/{part}:{real}/{part}:ro", f"{real}/{part}:{prefix}/{part}:ro"} <= volumes
    hidden = f"{real}/lib/python3.11/.env", f"{prefix}/lib/python3.11/.env"
    assert {f"/dev/null:{path}:ro" for path in hidden} <= volumes
    assert f"{real}/lib:{real}/lib64:ro" in volumes and f"{real}/lib:{prefix}/lib64:ro" in volumes
    assert not any("pip.conf" in volume or f"{real}:" in volume for volume in volumes)
    made = {volume.split(":")[1]: Path(volume.split(":")[0]) for volume in volumes}
    assert made[f"{real}/pyvenv.cfg"].read_text() == "home = /x\n"
    assert made[f"{prefix}/pyvenv.cfg"].read_text() == "home = /x\n"
    assert value(call, "--entrypoint") == python.executable
    (fake.folder / "complaint").write_text("version `GLIBC_2.38' not found\n")
    with pytest.raises(SandboxUnavailable) as caught:
        await box.start()
    assert "does not run in docker.io/library/python" in caught.value.reason
    assert 'Remove python = "host"' in caught.value.next_step


async def test_a_container_that_may_be_there_still_is_removed(
    fake: Fake, open_box: Callable[..., Sandbox]
) -> None:
    (fake.folder / "complaint").write_text("Error: something new\n")
    fake.answers("ps", "0123\n")
    box = open_box()
    with pytest.raises(SandboxUnavailable, match="something new"):
        await box.start()
    name = value(fake.run(), "--name")
    assert ["rm", "--force", name] in fake.calls()
    (fake.folder / "complaint").unlink()
    await box.start()
    await box.destroy()
    assert len([call for call in fake.calls() if call[0] == "rm"]) == 1


async def test_sweep(fake: Fake, open_box: Callable[..., Sandbox]) -> None:
    gone = engine_mark().replace(f"{os.getpid()}.", "4194305.", 1)
    fake.answers("ps", "aaa\nbbb\nccc\n")
    fake.answers("inspect", f"aaa {engine_mark()}\nbbb {gone}\nccc <no value>\n")
    box = open_box()
    await box.start()
    await box.stop()
    first, second = fake.calls()[:2]
    assert first[-1] == f"label=agent-magics.owner={owner_mark()}"
    assert second[0] == "inspect" and second[-3:] == ["aaa", "bbb", "ccc"]
    removed = [call[-1] for call in fake.calls() if call[0] == "rm"]
    assert removed == ["bbb", "ccc"]
    await box.start()  # looked for once in the life of an engine
    await box.destroy()
    assert len([call for call in fake.calls() if call[0] == "inspect"]) == 1


def test_who_is_alive() -> None:
    mark = engine_mark()
    assert is_alive(mark) and is_alive(mark.replace(str(os.getpid()), "1", 1)) is False
    number, start, boot = mark.split(".")
    assert not is_alive(f"{number}.{start}1.{boot}")  # the number is another's now
    assert not is_alive(f"{number}.{start}.other")  # before the machine was started
    assert not is_alive("") and not is_alive(f"9{'9' * 30}.{start}.{boot}")


async def test_a_program_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(cli_module, "PATIENCE", 0.2)
    assert await cli_module.Cli("docker", str(program)).call("ps") is None
    assert "docker ps takes too long" in caplog.text
    assert await cli_module.Cli("docker", str(tmp_path / "none")).call("ps") is None


@pytest.mark.parametrize(
    ("message", "reason", "next_step"),
    [
        ("Error: img: image not known", "not on this machine", "NAME pull img"),
        ("docker: Error response from daemon: No such image: img.", "not fetched", "NAME pull img"),
        (
            "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the "
            "docker daemon running?",
            "not running",
            "systemctl start docker",
        ),
        (
            "docker: permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock",
            "may not talk",
            "usermod -aG docker",
        ),
        (
            'Error: exec: "newuidmap": executable file not found in $PATH',
            "can't map user numbers",
            "install uidmap",
        ),
        ("no subuid ranges found for user", "no range", "--add-subuids"),
        ("Error: crun: cgroups in hybrid mode not supported", "at once", "containers.conf"),
        (
            "crun: the requested cgroup controller `pids` is not available",
            "controller `pids`",
            "cgroup_limits = false below [sandbox.NAME]",
        ),
        (
            "Error: crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission",
            "RLIMIT_NOFILE",
            "default_ulimits",
        ),
        (
            'OCI runtime create failed: exec: "python3": executable file not found in $PATH',
            "has no python3",
            "[sandbox.NAME] image",
        ),
        ("ModuleNotFoundError: No module named 'json'", "lacks", "not python3-minimal"),
        ("cannot clone: Operation not permitted", "user namespaces", "max_user_namespaces"),
        ("docker: Mounts denied: mounts denied: the path /x", "can't reach", "DATA_DIR"),
        ("unknown flag: --pull", "too old", "podman 4"),
        ("Error: brand new", "Error: brand new.", "NAME run --rm img"),
        ("", "no message", "NAME run --rm img"),
    ],
)
@pytest.mark.parametrize("name", ["podman", "docker"])
def test_reasons(name: str, message: str, reason: str, next_step: str) -> None:
    found = explain(message, name, "img", None)
    assert reason in found.reason and next_step.replace("NAME", name) in found.next_step
    assert "{" not in found.reason + found.next_step


async def test_not_installed(
    open_box: Callable[..., Sandbox], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(SandboxUnavailable, match=r"podman was not found.*apt install podman"):
        await open_box().start()
    with pytest.raises(SandboxUnavailable, match=r"docker was not found.*daemon"):
        await open_box("docker").start()


async def test_directories_that_cannot_be(
    fake: Fake, tmp_path: Path, root: Path, open_box: Callable[..., Sandbox]
) -> None:
    with pytest.raises(SandboxUnavailable, match="colon"):
        await open_sandbox(tmp_path / "a:b", provider="podman").start()
    root.write_text("a file")
    with pytest.raises(SandboxUnavailable, match="can't be prepared"):
        await open_box().start()


@pytest.mark.parametrize("provider", ["podman", "docker"])
async def test_a_network_goes_through_the_agent_program(
    fake: Fake, open_box: Callable[..., Sandbox], provider: str
) -> None:
    """The container has none of its own, whatever it may reach."""

    async def permit(host: str, port: int) -> str:
        return "No."

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box = open_box(provider, network=Network(permit))
    box._provider.config = configured(box._provider.config, port)  # type: ignore[method-assign]
    await box.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"CONNECT data.example.org:443 HTTP/1.1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 403 Forbidden by agent-magics: No.")
    writer.close()
    assert (await box.run("echo $https_proxy", cwd="/")).stdout == b"http://127.0.0.1:3128\n"
    await box.destroy()
    assert value(fake.run(), "--network") == "none"


def configured(config: Callable[[], dict[str, Any]], port: int) -> Callable[[], dict[str, Any]]:
    """On another port: this fake's containers share the machine's network."""
    return lambda: {**config(), "network": {"address": ["127.0.0.1", port]}}


@pytest.mark.parametrize("provider", ["podman", "docker"])
async def test_limits_of_the_configuration(
    fake: Fake, open_box: Callable[..., Sandbox], tmp_path: Path, provider: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[limits.container]\nmemory = "700 MB"\nprocesses = 90\nshared_memory = "32 MB"\n'
        'process_memory = "600 MB"\nfile_size = "1 MB"\nopen_files = 77\n'
    )
    box = open_box(provider, limits=EngineConfig.load(path, {}).container_limits)
    await box.start()
    told = await box.run("ulimit -d; ulimit -f; ulimit -n", cwd="/")
    await box.destroy()
    call = fake.run()
    found = [value(call, option) for option in ("--memory", "--pids-limit", "--shm-size")]
    assert found == [str(700 << 20), str(90 + 64), str(32 << 20)]
    assert [int(line) for line in told.stdout.split()] == [600 << 10, 1 << 10, 77]
