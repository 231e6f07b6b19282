"""
A small MCP server on stdin and stdout, for tests.

    python mcp_server.py [PID_FILE]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("test")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def environ() -> str:
    """The names of the variables that the server sees."""
    return ",".join(sorted(os.environ))


@server.tool()
def fail() -> str:
    """Never works."""
    raise ToolError("no luck")


@server.tool()
def die() -> str:
    """Ends the server in the middle of the call."""
    os._exit(3)


@server.tool()
def long() -> str:
    """Far too much text."""
    return "x" * 100_000


@server.tool()
def wait() -> str:
    """Never answers."""
    time.sleep(3600)
    return ""


def note(word: str) -> str:
    if file := os.environ.get("CALLS"):
        with Path(file).open("a") as calls:
            calls.write(f"{word}\n")
    return word


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look() -> str:
    """Only looks."""
    return note("look")


@server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False))
def change() -> str:
    """Changes something."""
    return note("change")


@server.tool()
def silent() -> str:
    """Does not say what it does."""
    return note("silent")


@server.tool()
def picture() -> Image:
    """An image."""
    return Image(data=b"\x89PNG\r\n\x1a\n", format="png")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with Path(sys.argv[1]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    server.run("stdio")
