"""
Searches files for a regular expression; runs inside the container, on its own.

Reads {pattern, path, include, limit} as JSON from stdin and prints {matches, more}, where a match
is [file, line number, text]. Exit code 2: the path does not exist. Only the standard library.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

SKIPPED = {".git", "node_modules", "__pycache__", ".ipynb_checkpoints"}
MAX_FILE = 10_000_000
MAX_TEXT = 300


def files(path: str, include: re.Pattern[str] | None) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    found = []
    for directory, names, entries in os.walk(path):
        names[:] = [name for name in names if name not in SKIPPED]
        for entry in entries:
            file = os.path.join(directory, entry)
            if include is None or include.fullmatch(os.path.relpath(file, path)):
                try:
                    info = os.lstat(file)
                except OSError:
                    continue
                if os.path.isfile(file) and info.st_size <= MAX_FILE:
                    found.append((-info.st_mtime_ns, file))
    return [file for _, file in sorted(found)]


def search(file: str, pattern: re.Pattern[str]) -> Iterator[list[Any]]:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_FILE)
    except OSError:
        return
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if pattern.search(line):
            yield [file, number, line.strip()[:MAX_TEXT]]


def main() -> int:
    request = json.load(sys.stdin)
    if not os.path.lexists(request["path"]):
        return 2
    include = request["include"] and re.compile(request["include"])
    pattern = re.compile(request["pattern"])
    matches: list[list[Any]] = []
    for file in files(request["path"], include):
        for match in search(file, pattern):
            if len(matches) >= request["limit"]:
                print(json.dumps({"matches": matches, "more": True}))
                return 0
            matches.append(match)
    print(json.dumps({"matches": matches, "more": False}))
    return 0


sys.exit(main())
