"""The workspace of a fake sandbox: the container's own code, on a plain directory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_magics.sandbox import FetchedFile, TreeRow
from agent_magics.sandbox._agent import trees
from agent_magics.sandbox._workspace import _Fetch, _row


class FakeTree:
    """
    Like `WorkspaceTree`, without a container.

    `fail_at`: number of calls of `put` after which one raises `OSError`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.scans = 0
        self.fail_at: int | None = None

    async def scan(self, *, skip: Sequence[str] = (), limit: int = 100_000) -> list[TreeRow]:
        import json

        self.scans += 1
        frames = trees.scan(str(self._root), list(skip), limit)
        return [_row(row) for frame in frames for row in json.loads(frame)]

    async def fetch(self, paths: Sequence[str], *, limit: int, budget: int) -> list[FetchedFile]:
        request = _Fetch(paths, limit, budget)
        for _ in trees.fetch(str(self._root), list(paths), limit, budget, None, request._take):
            pass
        return request.files

    async def read(self, path: str) -> AsyncIterator[bytes]:
        yield (self._root / path).read_bytes()

    async def change(self, steps: Iterable[Mapping[str, Any]]) -> None:
        for _ in trees.change(str(self._root), [dict(step) for step in steps]):
            pass

    async def put(
        self,
        path: str,
        content: Iterable[bytes] | AsyncIterable[bytes],
        *,
        mode: int,
        mtime: int | None = None,
        expect: Sequence[int] | None = None,
    ) -> None:
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                self.fail_at = None
                raise OSError(28, os.strerror(28))
        writing = trees.Restoring(str(self._root), path, mode, mtime, expect and list(expect))
        try:
            if isinstance(content, AsyncIterable):
                async for data in content:
                    writing.write(data)
            else:
                for data in content:
                    writing.write(data)
        except BaseException:
            writing.abandon()
            raise
        try:
            writing.finish()
        except OSError as error:
            writing.abandon()
            raise OSError(error.errno, error.strerror, path) from None
