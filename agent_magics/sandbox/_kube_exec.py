"""The framing of `kubectl exec` over a WebSocket: the first byte of a message is its channel."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

__all__ = ["carry"]

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
PIECE = 1 << 16
"""Bytes of input in one message."""
MOST_COMPLAINTS = 1 << 14
"""Bytes of its stderr that are kept, for people."""
FAREWELL = 5.0
"""Seconds the process has to end once its input has."""


async def carry(
    socket: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stderr: int
) -> bool:
    """
    Carry bytes between a process in a pod and two streams, until either side ends.

    Returns:
        whether it was our side; otherwise the caller may want to find out why.
    """
    up = asyncio.create_task(_up(socket, reader))
    down = asyncio.create_task(_down(socket, writer, stderr))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            return False
        await asyncio.wait({down}, timeout=FAREWELL)
        return True
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _up(socket: Any, reader: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(PIECE):
            await socket.send_bytes(bytes([STDIN]) + data)
        if _can_close(socket):
            await socket.send_bytes(bytes([CLOSE, STDIN]))
        else:  # older clusters close the input with the connection
            await socket.close()
    except ConnectionError:
        await asyncio.Event().wait()  # the other direction sees it, too


def _can_close(socket: Any) -> bool:
    """Whether the end of one channel can be told (protocol v5)."""
    return str(socket.protocol).startswith("v5.")


async def _down(socket: Any, writer: asyncio.StreamWriter, stderr: int) -> None:
    complaints = 0
    async for message in socket:
        data = message.data if isinstance(message.data, bytes) else b""
        channel, content = (data[0], data[1:]) if data else (-1, b"")
        if channel == STDOUT and content:
            writer.write(content)
            try:
                await writer.drain()
            except ConnectionError:  # our side is gone; only the end is of interest
                continue
        elif channel in (STDERR, STATUS) and complaints < MOST_COMPLAINTS:
            text = content if channel == STDERR else _status(content)
            complaints += len(text)
            os.write(stderr, text)
        if channel == STATUS and content:
            return


def _status(content: bytes) -> bytes:
    """What is said about the end of the process; nothing for a good one."""
    try:
        status = json.loads(content)
    except ValueError:
        return b""
    if not isinstance(status, dict) or status.get("status") == "Success":
        return b""
    return f"{status.get('message') or status.get('reason') or ''}\n".encode()
