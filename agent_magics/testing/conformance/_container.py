"""The session's container: commands and files."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from agent_magics.client import FileMissing

from ._kit import Checks, Kit

check = Checks()

_ALL_BYTES = bytes(range(256)) * 64


@check
async def commands_run(kit: Kit) -> None:
    """shell() gives stdout, stderr and the exit code, in /workspace or where it is told."""
    async with kit.session() as session:
        result = await session.shell("echo out; echo err >&2; exit 3")
        found = (result.stdout, result.stderr, result.exit_code, result.timed_out)
        kit.same(found, ("out\n", "err\n", 3, False), "result")
        kit.same((await session.shell("pwd")).stdout, "/workspace\n", "working directory")
        kit.same((await session.shell("pwd", cwd="/tmp")).stdout, "/tmp\n", "cwd")
        kit.same(await session.get_messages(), [], "messages after a command")


@check
async def commands_time_out(kit: Kit) -> None:
    """A command that takes too long is stopped with exit code 124; what it wrote is kept."""
    async with kit.session() as session:
        for timeout in (1000, timedelta(seconds=1)):
            result = await session.shell("echo begun; sleep 600; echo ended", timeout=timeout)
            found = (result.stdout, result.exit_code, result.timed_out)
            kit.same(found, ("begun\n", 124, True), "result")


@check
async def commands_stream(kit: Kit) -> None:
    """shell_stream() gives output while the command runs, and the result at its end."""
    async with kit.session() as session:
        pieces: list[str] = []
        async with session.shell_stream("echo one; read line; echo $line", stdin=b"two\n") as run:
            async for output in run:
                pieces.append(output.text)
        kit.same("".join(pieces), "one\ntwo\n", "output")


@check
async def files_are_exact(kit: Kit) -> None:
    """put_file() and get_file_buffer() carry any bytes; get_file() reads text; folders are made."""
    async with kit.session() as session:
        await session.put_file("/workspace/deep/er/all.bin", _ALL_BYTES)
        kit.same(await session.get_file_buffer("/workspace/deep/er/all.bin"), _ALL_BYTES, "bytes")
        await session.put_file("/workspace/text", "grüße\n")
        kit.same(await session.get_file("/workspace/text"), "grüße\n", "text")
        shown = await session.shell("cat text; wc -c < deep/er/all.bin")
        kit.same(shown.stdout.split(), ["grüße", str(len(_ALL_BYTES))], "files in the container")
        listed = {entry.path: entry.kind for entry in await session.list_files(recursive=True)}
        kit.same(listed.get("/workspace/deep/er/all.bin"), "file", "kind of a listed file")


@check
async def large_files_go_through_local_files(kit: Kit) -> None:
    """put_file() of a Path and get_file_to() carry files that are not taken into memory."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(_ALL_BYTES * 600)
        async with kit.session() as session:
            await session.put_file("/workspace/large", source)
            size = await session.get_file_to("/workspace/large", target)
            kit.same(size, len(_ALL_BYTES) * 600, "size")
            kit.same(target.read_bytes() == source.read_bytes(), True, "bytes are the same")
            async with kit.refused(FileMissing, "get_file_to() of nothing"):
                await session.get_file_to("/workspace/nothing", target)


@check
async def missing_files_are_typed_errors(kit: Kit) -> None:
    """Reading what is not there raises FileMissing."""
    async with kit.session() as session:
        async with kit.refused(FileMissing, "get_file() of nothing"):
            await session.get_file("/workspace/nothing")
        async with kit.refused(FileMissing, "list_files() of nothing"):
            await session.list_files("/workspace/nothing")


@check
async def containers_are_apart(kit: Kit) -> None:
    """Files of one session are not in another's container."""
    async with kit.session() as one, kit.session() as other:
        await one.put_file("/workspace/mine", b"1")
        async with kit.refused(FileMissing, "a file of another session"):
            await other.get_file("/workspace/mine")
