"""Files on their way to and from the container, in memory or through files of this machine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import ConnectionFailed, FileMissing, TooLarge
from ._protocol import session_path

if TYPE_CHECKING:
    import httpx

    from ._api import Api

__all__ = ["LARGEST_BUFFER", "fetch_bytes", "fetch_to", "send_file"]

LARGEST_BUFFER = 256 << 20
"""Bytes that are taken into memory at most."""

_PIECE = 1 << 20


async def fetch_bytes(api: Api, session_id: str, path: str) -> bytes:
    """The content of a file. Raises `FileMissing`, `TooLarge`."""
    content = bytearray()

    def keep(data: bytes) -> None:
        if len(content) + len(data) > LARGEST_BUFFER:
            raise _too_large(path)
        content.extend(data)

    await _fetch(api, session_id, path, keep, LARGEST_BUFFER)
    return bytes(content)


async def fetch_to(api: Api, session_id: str, path: str, target: Path) -> int:
    """Write a file of any size to `target`, at once; its bytes. Raises `FileMissing`, `OSError`."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            size = await _fetch(api, session_id, path, file.write, None)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


async def send_file(api: Api, session_id: str, path: str, data: bytes | str | Path) -> None:
    """Write a file of the container: bytes, a text, or what a local file has. Raises `TooLarge`."""
    url, params = session_path(session_id, "fs"), {"path": path}
    if not isinstance(data, Path):
        content = _plain_bytes(data)
        await api.request("PUT", url, params=params, content=content)
        return
    size = (await asyncio.to_thread(data.stat)).st_size
    await api.request(
        "PUT",
        url,
        params=params,
        content=lambda: _pieces(data, size),
        headers={"Content-Length": str(size)},
    )


async def _fetch(
    api: Api, session_id: str, path: str, take: Callable[[bytes], object], most: int | None
) -> int:
    import httpx

    response = await api.open_stream(
        "GET",
        session_path(session_id, "fs"),
        params={"path": path},
        headers={"Accept": "*/*"},
        missing=FileMissing,
    )
    try:
        if most is not None and _length(response) > most:
            raise _too_large(path)
        size = 0
        async for data in response.aiter_bytes(_PIECE):
            take(data)
            size += len(data)
        return size
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise ConnectionFailed(f"The file did not come to its end: {reason}") from error
    finally:
        await response.aclose()


async def _pieces(path: Path, size: int) -> AsyncIterator[bytes]:
    """As many bytes as were announced; fewer when the file got shorter."""
    with path.open("rb") as file:
        while size and (data := await asyncio.to_thread(file.read, min(_PIECE, size))):
            size -= len(data)
            yield data


def _length(response: httpx.Response) -> int:
    declared = response.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


def _too_large(path: str) -> TooLarge:
    most = LARGEST_BUFFER >> 20
    return TooLarge(f"{path} has more than {most} MB; get_file_to() writes it into a local file.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _plain_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8")
    if not isinstance(data, bytes | bytearray | memoryview):  # bytes(5) would be five zeros
        raise TypeError(f"a file's content is bytes, str or a Path, not {type(data).__name__}")
    return bytes(data)
