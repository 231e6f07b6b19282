"""Files that become something else while the host deals with them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

from .stand import DECOY, PRELUDE, Stand, check

ATTEMPTS = 40

SWAP = """
os.makedirs('real/.ssh', exist_ok=True)
open('real/.ssh/id_decoy', 'w').write('harmless')
open('real/victim', 'w').write('harmless')
if not os.path.islink('evil'): os.symlink({home!r}, 'evil')
end = time.time() + 50
while time.time() < end and not os.path.lexists('stop'):
    check(libc.renameat2(-100, b'real', -100, b'evil', 2))
"""


async def while_swapped(stand: Stand, act: Callable[[], Awaitable[bool]], wanted: int = 10) -> None:
    """
    Do `act` while a directory and a link to the host's home change places, until it answered True
    as often as `wanted`. An OSError is no answer.
    """
    await stand.run("rm -rf real evil")
    good, program = 0, SWAP.format(home=str(stand.home))
    async with meanwhile(stand, program) as goes_on:
        for tries in itertools.count():
            if not goes_on() or (good >= wanted and tries >= ATTEMPTS):
                break
            with contextlib.suppress(OSError):
                good += await act()
    assert good >= wanted
    assert (stand.home / "victim").read_text() == "untouched"
    assert (stand.home / ".ssh/id_decoy").read_text() == DECOY


@contextlib.asynccontextmanager
async def meanwhile(stand: Stand, program: str) -> AsyncIterator[Callable[[], bool]]:
    """Run a program in the container that ends when stop is there; whether it goes on."""
    await stand.run("rm -f stop")
    task = asyncio.create_task(
        stand.run("python -", stdin=(PRELUDE + program).encode(), timeout=55)
    )
    yield lambda: not task.done()
    await stand.run("touch stop")
    result = await task
    assert result.exit_code == 0, result
    await stand.run("rm -f stop")


@check
async def links_swapped_while_the_host_reads(stand: Stand) -> None:
    async def act() -> bool:
        content = await stand.box.read_file("real/.ssh/id_decoy")
        assert DECOY.encode() not in content
        return content == b"harmless"

    await while_swapped(stand, act)


@check
async def links_swapped_while_the_host_reads_in_pieces(stand: Stand) -> None:
    async def act() -> bool:
        file = await stand.box.open_file("real/.ssh/id_decoy")
        content = b"".join([piece async for piece in file.read()])
        assert DECOY.encode() not in content
        return content == b"harmless"

    await while_swapped(stand, act)


@check
async def links_swapped_while_the_host_writes(stand: Stand) -> None:
    async def act() -> bool:
        await stand.box.write_file("real/victim", b"overwritten")
        return True

    await while_swapped(stand, act)


@check
async def links_swapped_while_the_host_deletes(stand: Stand) -> None:
    async def act() -> bool:
        await stand.box.delete_file("real/victim")
        return True

    await while_swapped(stand, act, wanted=1)


@check
async def links_swapped_while_the_host_lists(stand: Stand) -> None:
    async def act() -> bool:
        names = {entry.path for entry in await stand.box.list_files("real")}
        assert not any("engine-state" in name or "notebook" in name for name in names), names
        return "/workspace/real/.ssh" in names

    await while_swapped(stand, act)


@check
async def links_swapped_while_a_snapshot_is_taken(stand: Stand) -> None:
    async def act() -> bool:
        rows = await stand.box.tree.scan()
        assert not any("engine-state" in row.path for row in rows)
        paths = ["real/.ssh/id_decoy", "real/victim"]
        files = await stand.box.tree.fetch(paths, limit=1000, budget=2000)
        assert not any(DECOY.encode() in (file.content or b"") for file in files)
        return files[0].content == b"harmless"

    await while_swapped(stand, act)


@check
async def links_swapped_while_a_snapshot_is_restored(stand: Stand) -> None:
    async def act() -> bool:
        await stand.box.tree.put("real/victim", [b"restored"], mode=0o644)
        await stand.box.tree.change(
            [
                {"do": "directory", "path": "real/new", "mode": 0o755},
                {"do": "link", "path": "real/link", "target": "x"},
                {"do": "remove", "path": "real/.ssh/authorized_keys"},
                {"do": "mode", "path": "real/victim", "mode": 0o600},
            ]
        )
        return True

    await while_swapped(stand, act, wanted=3)
    assert not (stand.home / "new").exists() and not (stand.home / "link").is_symlink()


@check
async def links_swapped_while_all_is_removed(stand: Stand) -> None:
    """The session ends in the middle of it: the host removes what still changes its place."""
    async with stand.another() as box:
        program = PRELUDE + SWAP.format(home=str(stand.home))
        swapper = asyncio.create_task(box.run("python -", stdin=program.encode()))
        while not any(entry.path.endswith("/real") for entry in await box.list_files()):
            pass
    await asyncio.wait({swapper})
    assert swapper.exception() is not None
    assert (stand.home / "victim").read_text() == "untouched"


WHILE = "while not os.path.lexists('stop'):\n"


@check
async def files_that_grow_while_they_are_read(stand: Stand) -> None:
    grow = WHILE + (
        "    with open('grow', 'ab') as file: file.write(bytes(5000))\n"
        "    if os.path.getsize('grow') > 2_000_000: os.truncate('grow', 0)\n"
    )
    await stand.run("truncate -s 0 grow")
    seen = 0
    async with meanwhile(stand, grow) as goes_on:
        while goes_on() and seen < ATTEMPTS:
            try:
                assert len(await stand.box.read_file("grow", max_bytes=1_000_000)) <= 1_000_000
                seen += 1
            except OSError as error:
                assert error.errno == errno.EFBIG
    assert seen == ATTEMPTS
    await stand.run("rm grow")


@check
async def files_that_become_pipes(stand: Stand) -> None:
    """An open that waits for a writer would wait for ever."""
    swap = WHILE + "    check(libc.renameat2(-100, b'one', -100, b'two', 2))\n"
    await stand.run("printf harmless > one; mkfifo two")
    good = 0
    async with meanwhile(stand, swap) as goes_on:
        while goes_on() and good < ATTEMPTS:
            with contextlib.suppress(OSError):
                good += await stand.box.read_file("one") == b"harmless"
            with contextlib.suppress(OSError):
                await stand.box.write_file("two", b"harmless")
    assert good == ATTEMPTS
    await stand.run("rm -f one two")
