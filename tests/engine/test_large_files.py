"""Files through a real engine: large ones, ones that change, paths that lead nowhere."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from agent_magics.client import (
    ApiError,
    AsyncClient,
    AsyncSessionHandle,
    ConnectionFailed,
    FileMissing,
    TooLarge,
    _files,
)
from agent_magics.sandbox import OpenFile, Sandbox, _pieces, open_sandbox, probe
from tests.support.engine_harness import TOKEN, engine_in, served
from tests.support.engine_process import EngineProcess, started

pytestmark = pytest.mark.container

MB = 1 << 20
SIZE = 256 * MB
"""Of the large file."""
SHARE = 4
"""A process may grow by this part of what it hands on; pieces and buffers are about 20 MB."""


@pytest.fixture(scope="module", params=["bubblewrap", "local"])
def provider(request: pytest.FixtureRequest) -> str:
    report = probe()[0]
    if request.param == "bubblewrap" and not report.works:
        pytest.skip(f"NO CONTAINERS HERE: {report.reason}")
    return str(request.param)


@pytest.fixture
async def engine() -> AsyncIterator[EngineProcess]:
    with EngineProcess() as engine:
        limit = f"\n[limits.container]\nfile_size = {SIZE + MB}\n"
        engine.config.write_text(engine.config.read_text() + limit)
        async with started(engine):
            yield engine
            await engine.end(signal.SIGTERM)


@pytest.fixture
async def session(engine: EngineProcess) -> AsyncIterator[AsyncSessionHandle]:
    transport = httpx.AsyncHTTPTransport(uds=str(engine.state / "engine.sock"))
    token = engine.info["token"]
    async with AsyncClient("http://agent", token=token, transport=transport) as client:
        works = probe()[0].works
        yield await client.create_session(sandbox="bubblewrap" if works else "local", python=None)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path fits into a socket's address."""
    path = Path(tempfile.mkdtemp(prefix="am-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def highest(pid: int) -> int:
    """The most memory in bytes that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_there_and_back(
    engine: EngineProcess, session: AsyncSessionHandle, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        block = os.urandom(MB)
        for number in range(SIZE // MB):
            file.write(block[number:] + block[:number])
    await session.put_file("small", b"x")
    assert engine.process is not None
    before, here = highest(engine.process.pid), highest(os.getpid())
    await session.put_file("deep/large", source)
    assert (await session.shell("sha256sum < deep/large")).stdout.split()[0] == digest(source)
    assert await session.get_file_to("deep/large", target) == SIZE
    assert digest(target) == digest(source)
    assert highest(engine.process.pid) - before < SIZE // SHARE
    assert highest(os.getpid()) - here < SIZE // SHARE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source", "target"]

    # what is too large is refused before it is sent, and leaves nothing behind
    with source.open("ab") as file:
        file.write(bytes(2 * MB))
    with pytest.raises(TooLarge, match=rf"larger than {SIZE + MB} bytes"):
        await session.put_file("deep/too-large", source)
    assert [e.path for e in await session.list_files("deep")] == ["/workspace/deep/large"]


async def test_ranges_of_a_large_file(engine: EngineProcess, session: AsyncSessionHandle) -> None:
    await session.shell("head -c 9000000 /dev/zero > large; printf end >> large")
    async with engine.client() as http:
        path = f"/session/{session.id}/fs?path=large"
        for asked, length, ending in [
            ("bytes=8999999-", 4, b"\0end"),
            ("bytes=-3", 3, b"end"),
            ("bytes=1-8999999", 8_999_999, b"\0"),
        ]:
            answer = await http.get(path, headers={"Range": asked})
            assert answer.status_code == 206
            assert len(answer.content) == length and answer.content.endswith(ending)
        answer = await http.get(path, headers={"Range": "bytes=9000003-"})
        assert answer.status_code == 416 and answer.headers["Content-Range"] == "bytes */9000003"
        assert len((await http.get(path)).content) == 9_000_003


async def test_a_buffer_has_a_limit(
    session: AsyncSessionHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "LARGEST_BUFFER", 1000)
    await session.put_file("a", b"x" * 1001)
    with pytest.raises(TooLarge, match=r"get_file_to\(\) writes it into a local file"):
        await session.get_file_buffer("a")
    assert await session.get_file_to("a", tmp_path / "a") == 1001
    with pytest.raises(FileMissing):
        await session.get_file_to("b", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 1001
    with pytest.raises(FileNotFoundError):
        await session.get_file_to("a", tmp_path / "no" / "a")
    with pytest.raises(FileNotFoundError):
        await session.put_file("a", tmp_path / "no")


async def test_paths_that_lead_through_files(session: AsyncSessionHandle) -> None:
    await session.put_file("file", b"kept")
    for path in ("file/child", "file/child/grandchild", "/workspace/file/../file/x"):
        for attempt in (session.put_file(path, b"x"), session.get_file_buffer(path)):
            with pytest.raises(ApiError, match="Not a directory: ") as caught:
                await attempt
            assert (caught.value.status, caught.value.name) == (400, "NotADirectoryError")
    with pytest.raises(ApiError, match="Not a directory"):
        await session.list_files("file")
    with pytest.raises(ApiError, match="Is a directory"):
        await session.put_file("/workspace", b"x")
    assert (await session.shell("true", cwd="/workspace/file")).exit_code == 126
    assert await session.get_file("file") == "kept"


# in the sandbox itself


@pytest.fixture
async def box(tmp_path: Path, provider: str) -> AsyncIterator[Sandbox]:
    box = open_sandbox(tmp_path / "session", provider=provider)
    await box.start()
    yield box
    await box.destroy()


async def test_a_file_that_changes_while_it_is_read(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pieces, "PIECE", 1000)
    change = {
        "replaced": "head -c 5000 /dev/zero > new; mv new f",
        "cut": "truncate -s 1500 f",
        "gone": "rm f",
    }
    for name, command in change.items():
        await box.write_file("f", bytes(5000))
        file = await box.open_file("f")
        assert (file.size, file.whole) == (5000, None)
        pieces = file.read()
        assert len(await anext(pieces)) == 1000
        await box.run(command)
        with pytest.raises(OSError) as caught:
            while True:
                await anext(pieces)
        assert isinstance(caught.value, FileNotFoundError) == (name == "gone")
    await box.write_file("f", bytes(5000))
    growing = await box.open_file("f")
    await box.run("echo more >> f")
    assert b"".join([piece async for piece in growing.read(10)]) == bytes(4990)


async def test_files_whose_size_is_not_true(box: Sandbox) -> None:
    file = await box.open_file("/proc/self/status")
    assert file.whole is not None and file.size == len(file.whole) > 100
    assert [piece async for piece in file.read(0, 5)] == [file.whole[:5]]
    await box.write_file("empty", b"")
    assert (await box.open_file("empty")).whole == b""
    with pytest.raises(IsADirectoryError):
        await box.open_file("/workspace")
    with pytest.raises(OSError):
        await box.open_file("/dev/zero")


async def test_a_writer_that_fails_leaves_the_old_file(box: Sandbox) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"new"
        raise ZeroDivisionError

    async def whole() -> AsyncIterator[bytes]:
        yield b"new"
        yield b"er"

    await box.write_file("f", b"old")
    with pytest.raises(ZeroDivisionError):
        await box.write_file("f", pieces())
    assert await box.read_file("f") == b"old"
    with pytest.raises(NotADirectoryError):
        await box.write_file("f/child", whole())
    await box.write_file("f", whole())
    assert await box.read_file("f") == b"newer"
    assert [entry.path for entry in await box.list_files()] == ["/workspace/f"]


class Cut(OpenFile):
    """A file that is lost after its first piece."""

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise OSError(errno.ESTALE, "changed")


async def test_a_file_that_is_lost_on_the_way_is_an_error(
    tmp_path: Path, short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The announced length is missed, so nobody takes a part for the whole."""
    async with engine_in(tmp_path / "engine") as harness, served(harness, short_dir):
        made = await harness.session()

        async def open_cut(path: str) -> OpenFile:
            return Cut(path, 5000, None, 1, None)  # type: ignore[arg-type]

        harness.sandboxes[0].open_file = open_cut  # type: ignore[method-assign]
        transport = httpx.AsyncHTTPTransport(uds=str(short_dir / "test.sock"))
        async with AsyncClient("http://agent", token=TOKEN, transport=transport) as client:
            session = client.session(made.id)
            with pytest.raises(ConnectionFailed, match="did not come to its end"):
                await session.get_file_to("f", tmp_path / "f")
            with pytest.raises(ConnectionFailed):
                await session.get_file_buffer("f")
    assert not list(tmp_path.glob("*f*"))
    assert "a file could not be sent to its end: OSError" in caplog.text
