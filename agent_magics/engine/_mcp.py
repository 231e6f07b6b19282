"""
MCP servers of the configuration: their tools, as `NAME_tool`.

A server is started, or connected to, when the first turn needs it, and stays until the engine
goes. One that can't be had is told in the turn as a failed call of `mcp`, and tried again in a
later turn; the turn itself goes on without its tools. Servers that are commands run on this
machine, as the user, because the user has configured them; they see a few harmless variables of
the environment and what `env` gives them.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_ai import AbstractToolset, RunContext
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ToolsetTool

from agent_magics.wire import McpStatusJSON

from ._config_tables import McpConfig
from ._http import routed
from ._ids import new_id
from ._text import dumps
from .tools import MAX_OUTPUT, TurnDeps, cap_text

if TYPE_CHECKING:
    from pydantic_ai.mcp import MCPToolset

__all__ = ["McpServer", "McpServers", "McpTools", "declared"]

log = logging.getLogger(__name__)

_START_TIMEOUT = 20.0
_CALL_TIMEOUT = 300.0
_HTTP_TIMEOUT = 30.0
_CLOSE_TIMEOUT = 5.0
_PAUSE = 60.0
"""Seconds after a failure before a server is tried again."""
_READ_ONLY = "agent-magics-read-only"
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_INSTALL = "The MCP support is not installed; run: pip install 'agent-magics[mcp]'"


class McpError(Exception):
    """The server can't be had; the message says why."""


@dataclass
class McpServer:
    """A server and how it stands. `problem` says why it can't be had, `None` when it can."""

    name: str
    config: McpConfig
    environ: Mapping[str, str]
    log_dir: Path
    problem: str | None = None
    connected: bool = False
    failed_at: float | None = None
    toolset: MCPToolset[Any] | None = field(default=None, repr=False)
    http: Any = field(default=None, repr=False)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def due(self) -> bool:
        """Whether it is to be tried (again) now."""
        return self.failed_at is None or time.monotonic() - self.failed_at >= _PAUSE

    def status(self) -> McpStatusJSON:
        if not self.config.enabled:
            return {"status": "disabled"}
        if self.problem is not None:
            return {"status": "failed", "error": self.problem}
        return {"status": "connected" if self.connected else "pending"}

    async def open(self, stack: AsyncExitStack) -> bool:
        """Make the server ready until `stack` is closed. False when it can't be had."""
        async with self.lock:
            try:
                async with asyncio.timeout(_START_TIMEOUT):
                    if self.toolset is None:
                        self.toolset = await self._make()
                    await stack.enter_async_context(self.toolset)
                    await self.toolset.list_tools()
            except TimeoutError:
                await self._failed(f"it did not answer within {_START_TIMEOUT:g} s")
            except Exception as error:
                await self._failed(str(error) or type(error).__name__)
            else:
                self.problem, self.connected, self.failed_at = None, True, None
        return self.connected

    async def _failed(self, reason: str) -> None:
        await self.close()
        hint = f" Its output is in {self._log}." if self._log.exists() else ""
        self.problem = f"The MCP server {self.name} can't be used: {reason.rstrip('.')}.{hint}"
        self.failed_at = time.monotonic()
        log.warning("%s", self.problem)

    @property
    def _log(self) -> Path:
        return self.log_dir / f"mcp-{self.name}.log"

    async def _make(self) -> MCPToolset[Any]:
        os.environ.setdefault("FASTMCP_LOG_ENABLED", "false")  # the engine's log is its own
        try:  # it takes seconds
            mcp = await asyncio.to_thread(importlib.import_module, "pydantic_ai.mcp")
        except ImportError as error:
            raise McpError(_INSTALL) from error
        options: dict[str, Any] = {
            "id": self.name,
            "tool_error_behavior": "failed",
            "init_timeout": _START_TIMEOUT,
            "read_timeout": _CALL_TIMEOUT,
        }
        source: Any = self.config.url
        if source is None:
            source = self._command()
        else:
            library = _http_library()
            self.http = options["http_client"] = library.AsyncClient(
                headers=self._filled(self.config.headers),
                timeout=library.Timeout(_HTTP_TIMEOUT, read=_CALL_TIMEOUT),
                follow_redirects=True,
                **routed(library, source),
            )
        toolset: MCPToolset[Any] = mcp.MCPToolset(source, **options)
        return toolset

    def _command(self) -> Any:
        """The transport of a server that is a command; its process stays between turns."""
        from fastmcp.client.transports import StdioTransport

        command, *arguments = self.config.command
        self._log.unlink(missing_ok=True)
        env = self._filled(self.config.env)
        return StdioTransport(command, arguments, env=env, log_file=self._log)

    def _filled(self, values: Mapping[str, str]) -> dict[str, str]:
        """Values with `${NAME}` replaced by the engine's variable of that name."""

        def value(match: re.Match[str]) -> str:
            found = self.environ.get(match[1])
            if found is None:
                raise McpError(f"the environment variable {match[1]} is not set")
            return found

        return {name: _REFERENCE.sub(value, text) for name, text in values.items()}

    async def close(self) -> None:
        """End the server's process, or the connection."""
        if self.toolset is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.toolset.client.close()
                if self.http is not None:
                    await self.http.aclose()
        except Exception as error:  # the process ends with the engine, at the latest
            log.warning("closing the MCP server %s: %s", self.name, type(error).__name__)
        self.toolset, self.http, self.connected = None, None, False


class McpServers:
    """All servers of the configuration. `log_dir` gets what commands write to stderr."""

    def __init__(
        self,
        configs: Mapping[str, McpConfig] | None = None,
        environ: Mapping[str, str] | None = None,
        log_dir: Path = Path("/tmp"),
    ) -> None:
        environ = {} if environ is None else environ
        self.all = [McpServer(name, c, environ, log_dir) for name, c in (configs or {}).items()]

    def status(self) -> dict[str, McpStatusJSON]:
        """`{status, error?}` by name: connected, failed, disabled, or pending before a turn."""
        return {server.name: server.status() for server in self.all}

    def toolsets(self) -> list[AbstractToolset[Any]]:
        """What the agent gets; nothing without an enabled server."""
        return [McpTools(self)] if any(server.config.enabled for server in self.all) else []

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.all))


@dataclass
class McpTools(AbstractToolset[TurnDeps]):
    """The tools of all servers that can be had. Each run has its own copy."""

    servers: McpServers
    ready: list[McpServer] = field(default_factory=list)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)
    deps: TurnDeps | None = field(default=None, repr=False)

    @property
    def id(self) -> str | None:
        return "mcp"

    async def for_run(self, ctx: RunContext[TurnDeps]) -> McpTools:
        return McpTools(self.servers, deps=ctx.deps)

    async def __aenter__(self) -> McpTools:
        for server in self.servers.all:
            if not server.config.enabled or not server.due:
                continue
            if await server.open(self.stack):
                self.ready.append(server)
            elif self.deps is not None:
                call = ToolCallPart("mcp", {"server": server.name}, new_id("call"))
                self.deps.fail_call(self.deps.find(call), server.problem or "")
        return self

    async def __aexit__(self, *args: Any) -> bool | None:
        self.ready.clear()
        try:
            await self.stack.aclose()
        except Exception as error:  # a connection that broke: the next turn makes a new one
            log.warning("leaving the MCP servers: %s", type(error).__name__)
        return None

    async def get_tools(self, ctx: RunContext[TurnDeps]) -> dict[str, ToolsetTool[TurnDeps]]:
        found: dict[str, ToolsetTool[TurnDeps]] = {}
        for server in self.ready:
            assert server.toolset is not None
            try:
                tools = await server.toolset.get_tools(ctx)
            except Exception as error:  # it broke; its calls would only fail
                log.warning("the MCP server %s: %s", server.name, type(error).__name__)
                continue
            for name, tool in tools.items():
                full = f"{server.name}_{name}"
                wanted = server.config.tools is None or name in server.config.tools
                if wanted and full not in found and _TOOL_NAME.fullmatch(full):
                    renamed = _renamed(tool.tool_def, full)
                    found[full] = _McpTool(
                        toolset=self,
                        tool_def=renamed,
                        max_retries=tool.max_retries,
                        args_validator=tool.args_validator,
                        server=server,
                        tool=tool,
                    )
        return found

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[TurnDeps],
        tool: ToolsetTool[TurnDeps],
    ) -> Any:
        assert isinstance(tool, _McpTool) and tool.server.toolset is not None
        own = tool.tool.tool_def.name
        try:
            result = await tool.server.toolset.call_tool(own, tool_args, ctx, tool.tool)
        except (ModelRetry, ToolFailed):
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ToolFailed(f"The MCP server {tool.server.name} failed: {reason}") from error
        return _capped(result)


@dataclass(kw_only=True)
class _McpTool(ToolsetTool[TurnDeps]):
    """A tool under its full name, and the server's own form of it."""

    server: McpServer
    tool: ToolsetTool[Any]


def _http_library() -> Any:
    """The httpx that the installed fastmcp is made for: 3 has httpx, 4 has httpx2."""
    http = importlib.import_module("fastmcp.client.transports.http")
    return getattr(http, "httpx2", None) or http.httpx


def _renamed(tool: ToolDefinition, name: str) -> ToolDefinition:
    metadata = tool.metadata or {}
    hints = metadata.get("annotations") or {}
    only_reads = hints.get("readOnlyHint") is True
    return replace(tool, name=name, metadata={**metadata, _READ_ONLY: only_reads})


def declared(tool: ToolDefinition) -> bool | None:
    """
    Whether a tool of an MCP server declares that it only reads; None for the engine's own tools.

    The declaration is believed: the user chose the server.
    """
    found = (tool.metadata or {}).get(_READ_ONLY)
    return found if isinstance(found, bool) else None


def _capped(result: Any) -> Any:
    """A result that is not too long for the model's context; images stay."""
    if isinstance(result, str):
        return cap_text(result)
    if isinstance(result, Sequence):
        return [_capped(item) for item in result]
    if isinstance(result, Mapping) and len(text := dumps(result)) > MAX_OUTPUT:
        return cap_text(text)
    return result
