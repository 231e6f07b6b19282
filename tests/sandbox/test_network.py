"""The way out of bubblewrap's containers, beyond what all providers have; pip and curl by it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import sysconfig
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_magics.sandbox import ExecResult, Network, Sandbox, open_sandbox
from tests.support.proxied import SERVER, read_head, server

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("needs_bubblewrap")]

HOST = "data.example.org"


@asynccontextmanager
async def networked(root: Path, **environ: str) -> AsyncIterator[Sandbox]:
    """A container that may reach HOST, which is our server."""

    async def permit(host: str, port: int) -> str:
        return "" if host == HOST else f"{host}:{port} is not allowed here. Ask."

    async def resolve(host: str, port: int) -> list[str]:
        return [SERVER]

    box = open_sandbox(root, network=Network(permit, (SERVER,), environ, resolve))
    await box.start()
    try:
        yield box
    finally:
        await box.destroy()


def text(result: ExecResult) -> str:
    return (result.stdout + result.stderr).decode()


async def test_without_it_there_is_nothing(sandbox: Sandbox) -> None:
    shown = text(await sandbox.run("env; cat < /dev/tcp/127.0.0.1/3128"))
    assert "proxy" not in shown.lower() and "Connection refused" in shown


async def test_programs_find_the_proxy(root: Path) -> None:
    python = "import urllib.request as u; print(u.urlopen('http://{}/').read().decode())"
    async with networked(root) as box, server() as port:
        site = f"{HOST}:{port}"
        assert (await box.run(f"curl -sS http://{site}/")).stdout == b"hello"
        assert (await box.run(f"curl -sSp http://{site}/")).stdout == b"hello"
        assert text(await box.run(f'python -c "{python.format(site)}"')) == "hello\n"
        assert box.traffic.allowed == 3 and box.traffic.refused == 0


async def test_refusals_reach_people_and_models(root: Path) -> None:
    async with networked(root) as box:
        plain = await box.run("curl -sS http://evil.example.org/")
        assert plain.stdout == b"agent-magics: evil.example.org:80 is not allowed here. Ask.\n"
        program = "import urllib.request as u; u.urlopen('https://evil.example.org/')"
        shown = text(await box.run(f'python -c "{program}"'))
        assert "403 Forbidden by agent-magics: evil.example.org:443 is not allowed here" in shown
        git = await box.run("git ls-remote https://evil.example.org/x.git")
        assert git.exit_code != 0 and b"403" in git.stderr


async def test_nothing_but_the_proxy(root: Path) -> None:
    async with networked(root) as box, server() as port:
        shown = text(await box.run(f"cat < /dev/tcp/{SERVER}/{port}"))
        assert "Connection refused" in shown  # the container's own loopback
        shown = text(await box.run("cat < /dev/tcp/192.0.2.1/443"))
        assert "Network is unreachable" in shown
        shown = text(await box.run(f"curl -sS --noproxy '*' http://{HOST}:{port}/"))
        assert "Could not resolve host" in shown
        for host in ("169.254.169.254", "127.0.0.3", "localhost", "10.0.0.1"):
            shown = text(await box.run(f"curl -sS --noproxy '' http://{host}:{port}/"))
            assert "private network" in shown, (host, shown)


async def test_it_outlives_what_happens_inside(root: Path) -> None:
    async with networked(root) as box, server() as port:
        await box.run("kill -9 -1")
        assert (await box.run(f"curl -sS http://{HOST}:{port}/")).stdout == b"hello"
        taken = await box.run("python -m http.server --bind 127.0.0.1 3128")
        assert b"Address already in use" in taken.stderr
        await box.run("kill -9 1; kill -STOP 1")
        assert (await box.run(f"curl -sS http://{HOST}:{port}/")).stdout == b"hello"


async def test_no_descriptor_of_the_host_is_left_inside(root: Path) -> None:
    code = "import os; print(sorted(os.listdir('/proc/self/fd')), os.listdir('/run'))"
    async with networked(root) as box:
        shown = text(await box.run(f'python -c "{code}"'))
    assert shown.startswith("['0', '1', '2', '3']")


# --- pip


def wheel() -> bytes:
    """A package `tinything` of one module."""
    files = {
        "tinything.py": "ANSWER = 42\n",
        "tinything-1.0.dist-info/METADATA": "Metadata-Version: 2.1\n"
        "Name: tinything\nVersion: 1.0\n",
        "tinything-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest())
        rows.append(f"{name},sha256={digest.rstrip(b'=').decode()},{len(content)}\n")
    files["tinything-1.0.dist-info/RECORD"] = "".join(rows)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


async def index(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A package index with one package."""
    path = (await read_head(reader)).split(b" ")[1]
    name = b"tinything-1.0-py3-none-any.whl"
    if path.endswith(b".whl"):
        body, kind = wheel(), b"application/octet-stream"
    else:
        body, kind = b'<a href="/%s">%s</a>' % (name, name), b"text/html"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (kind, len(body)) + body)


async def test_pip_installs_into_the_workspace(root: Path) -> None:
    async with server(index) as port:
        url = f"http://{HOST}:{port}/simple/"
        async with networked(root, PIP_INDEX_URL=url, PIP_TRUSTED_HOST=HOST) as box:
            done = await box.run("python -m pip install --no-deps tinything")
            assert done.exit_code == 0, text(done)
            found = await box.run("python -c 'import tinything as t; print(t.ANSWER, t.__file__)'")
    assert found.stdout == b"42 /workspace/.local/py/tinything.py\n", text(found)
    installed = Path(sysconfig.get_path("purelib"))
    assert installed.is_dir() and not list(installed.glob("tinything*"))
