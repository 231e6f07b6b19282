"""
Names of files that are no UTF-8, as text.

In lists of files they are strings as `os.fsdecode` makes them, which can be passed back. Where that
can't be (what a model reads and writes, keys of artifacts, what is printed) each byte that is no
UTF-8 is spelled `\\xNN`, and a path so spelled means that file unless one has it as its plain name.
"""

from __future__ import annotations

import os
import re

__all__ = ["spelled_name", "unspelled_name"]

_BYTE = re.compile("[\udc80-\udcff]")
_SPELLED = re.compile(r"\\x([89a-f][0-9a-f])")


def spelled_name(path: str) -> str:
    """`path` with each byte that is no UTF-8 as `\\xNN`; such text can always be encoded."""
    return _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", path)


def unspelled_name(path: str) -> str:
    """
    The name, as `os.fsdecode` has it, that `spelled_name` may have made this of; else `path`.

    Never another spelling of a name that is UTF-8, which rules about paths would not know.
    """
    if not _SPELLED.search(path):
        return path
    parts = re.split(r"\\x([89a-f][0-9a-f])", path)
    data = b"".join(
        bytes.fromhex(part) if index % 2 else part.encode("utf-8", "surrogateescape")
        for index, part in enumerate(parts)
    )
    name = os.fsdecode(data)
    return name if spelled_name(name) == path else path
