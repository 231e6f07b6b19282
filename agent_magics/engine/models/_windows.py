"""
Context windows that nobody knows but the server that has the model.

Many servers that speak OpenAI's protocol name it in their list of models, some under a path of
their own. They are asked in the background, once, when a turn has had its first reply: no turn
waits for it. What a server says when a request was too large is remembered as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ._clients import Access

__all__ = ["Window", "WindowBook", "windows_of"]

log = logging.getLogger(__name__)

_PATIENCE = 10.0
_MOST_TRIES = 3
_MOST_SERVERS = 32
_FIELDS = (
    "max_model_len",  # vLLM, SGLang
    "loaded_context_length",  # LM Studio
    "context_length",  # OpenRouter, Together, Fireworks, Ollama
    "context_window",  # Groq
    "max_context_length",  # Mistral; LM Studio for a model that is not loaded
)
_OWN_PATHS = {
    "llamacpp": "/props",
    "organization_owner": "/api/v0/models",  # LM Studio
    "library": "/api/ps",  # Ollama
}
"""Where servers tell more than in their list; by the `owned_by` of what is in it."""


@dataclass
class Window:
    """
    The context window of one model, in tokens, as far as it is known.

    `known` is public or our own knowledge, `served` what the server says of itself, `named` what
    it said when a request was too large. `ask` makes the server say it, some time later.
    """

    known: int | None = None
    served: int | None = None
    named: int | None = None
    ask: Callable[[], None] = field(default=lambda: None, repr=False)

    def size(self, configured: int | None = None) -> int | None:
        """
        What counts; None when nothing is known.

        `configured` stands in where the model's own window is not public, and wins over what the
        server says, unless requests are refused at less.
        """
        if self.known is not None:
            limits = [self.known, self.served, self.named]
        else:
            limits = [self.served if configured is None else configured, self.named]
        return min((limit for limit in limits if limit is not None), default=None)

    def learn(self, size: int | None) -> None:
        """A request was refused as too large for a window of this size, if that was named."""
        if size is not None:
            self.named = size


class WindowBook:
    """The windows of the models of all servers. To be used from one event loop."""

    def __init__(self) -> None:
        self._servers: OrderedDict[Access, _Server] = OrderedDict()

    def of(
        self, access: Access, model_id: str, known: int | None, client: AsyncOpenAI | None
    ) -> Window:
        """The window of one model; without a client its server is never asked."""
        server = self._servers.get(access)
        if server is None:
            server = self._servers[access] = _Server()
        self._servers.move_to_end(access)
        while len(self._servers) > _MOST_SERVERS:
            self._servers.popitem(last=False)[1].stop()
        return server.window(model_id, known, client)

    async def aclose(self) -> None:
        """Ask nobody any more."""
        tasks = [task for server in self._servers.values() if (task := server.stop())]
        if tasks:
            await asyncio.wait(tasks)


class _Server:
    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._served: dict[str, int] | None = None
        self._tries = 0
        self._task: asyncio.Task[None] | None = None

    def window(self, model_id: str, known: int | None, client: AsyncOpenAI | None) -> Window:
        window = self._windows.get(model_id)
        if window is None:
            window = self._windows[model_id] = Window(known)
            window.served = _served(self._served or {}, model_id)
        if client is not None:
            window.ask = lambda: self._ask(client)
        return window

    def stop(self) -> asyncio.Task[None] | None:
        """End what is going on; its task, to be waited for."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _ask(self, client: AsyncOpenAI) -> None:
        running = self._task is not None and not self._task.done()
        if self._served is None and not running and self._tries < _MOST_TRIES:
            self._tries += 1
            self._task = asyncio.create_task(self._fetch(client), name="context windows")

    async def _fetch(self, client: AsyncOpenAI) -> None:
        try:
            self._served = await _ask_server(client)
        except Exception as error:  # the server's business: the model works without, too
            log.info("a list of models could not be read: %s", type(error).__name__)
            return
        for model_id, window in self._windows.items():
            window.served = _served(self._served, model_id)


def _served(windows: Mapping[str, int], model_id: str) -> int | None:
    """By the model's id; a server that has one model takes any."""
    if len(windows) == 1:
        return next(iter(windows.values()))
    return windows.get(model_id) or windows.get(f"{model_id}:latest")


async def _ask_server(client: AsyncOpenAI) -> dict[str, int]:
    listed = await _get(client, "/models")
    found = windows_of(listed)
    owners = {str(entry.get("owned_by")) for entry in _entries(listed)}
    path = next((own for owner, own in _OWN_PATHS.items() if owner in owners), None)
    if path is None or (path == "/props" and found):
        return found
    base = urlsplit(str(client.base_url))
    prefix = base.path.rstrip("/").removesuffix("/v1")
    told = await _get(client, f"{base.scheme}://{base.netloc}{prefix}{path}")
    if path == "/props":
        settings = told.get("default_generation_settings") if isinstance(told, dict) else None
        size = _number(settings, "n_ctx")
        return {str(entry["id"]): size for entry in _entries(listed)} if size else _trained(listed)
    return windows_of(told) or found


async def _get(client: AsyncOpenAI, path: str) -> Any:
    return await client.get(path, cast_to=object, options={"timeout": _PATIENCE})


def windows_of(listed: Any) -> dict[str, int]:
    """The windows that a server's list of models names, by the models' ids."""
    found = {}
    for entry in _entries(listed):
        sizes = [size for name in _FIELDS if (size := _number(entry, name))][:1]
        sizes += [
            size
            for outer, name in (("meta", "n_ctx"), ("top_provider", "context_length"))
            if (size := _number(entry.get(outer), name))
        ]
        if sizes:
            found[str(entry["id"])] = min(sizes)
    return found


def _trained(listed: Any) -> dict[str, int]:
    """What the models were made for, of a llama.cpp that doesn't tell what it was started with."""
    sizes = {str(e["id"]): _number(e.get("meta"), "n_ctx_train") for e in _entries(listed)}
    return {model_id: size for model_id, size in sizes.items() if size}


def _entries(listed: Any) -> Iterator[dict[str, Any]]:
    """The entries of `{"data": [...]}`, of Ollama's `{"models": [...]}` or of a plain list."""
    if isinstance(listed, dict):
        listed = listed.get("data", listed.get("models"))
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and (name := entry.get("id", entry.get("name"))):
            yield {**entry, "id": name}


def _number(entry: Any, name: str) -> int:
    """A positive number of tokens, else 0."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
