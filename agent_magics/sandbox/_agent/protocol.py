"""
The frames between the host and the agent program inside the container.

A frame is a nine byte header (type, request number, length of the payload; big endian) and the
payload. The host numbers requests from 1; every answer carries its request's number. This module is
used on both sides and imports nothing but the standard library.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct(">BII")

CHUNK = 1 << 18
"""Payload size of data frames in bytes; both sides cut longer data into pieces of it."""

MAX_PAYLOAD = 1 << 20
"""Longest payload the host accepts, in bytes."""

# host to agent; JSON payloads unless said otherwise
RUN = 1  # command, cwd, env, limit
STDIN = 2  # bytes; any number of them before RUN of the same request
KILL = 3  # grace (seconds), reason
READ = 4  # path, limit
WRITE = 5  # path, follow: false refuses a path with a link in it
WRITE_DATA = 6  # bytes
WRITE_END = 7  # empty
DELETE = 8  # path
LIST = 9  # path, recursive, limit, skip
CANCEL = 10  # empty: forget this file request
SCAN = 11  # skip, limit: what the workspace contains
FETCH = 12  # paths, limit, budget: contents of files of the workspace
CHANGE = 13  # steps: remove, make, link, set modes in the workspace
PUT = 14  # path, mode, mtime: a file of the workspace; then WRITE_DATA and WRITE_END
JOBS = 15  # empty object: command lines of what finished commands left running
PIECE = 16  # path, offset, length: a part of a file
INTERRUPT = 17  # patience, grace (seconds): Ctrl-C to a command; KILL follows if it does not help

# host to agent, about a connection to the network; it has a number of its own
NET_DATA = 18  # bytes for the program
NET_END = 19  # empty: no more of them will come
NET_TAKEN = 20  # four bytes: so many of its bytes were taken, as many more may come
NET_CLOSE = 21  # empty: close it once the program has got all; answered by NET_CLOSED
NET_DROP = 22  # empty: close it now; answered by NET_CLOSED unless that is on its way

# agent to host
HELLO = 65  # pid, python
STDOUT = 66  # bytes
STDERR = 67  # bytes
EXIT = 68  # code, killed_by, truncated, background: last frame of a RUN
DATA = 69  # READ: bytes; LIST, SCAN, JOBS: JSON array of rows; FETCH: a letter and what it says;
# WRITE: the path that a link leads to, before FAIL;
# PIECE: JSON of size and inode, then bytes
DONE = 70  # empty: last frame of a file request
FAIL = 71  # errno, message: last frame of a request that failed

# agent to host, about a connection to the network; the agent program numbers them from 1
NET_OPENED = 72  # empty: a program has connected
NET_SENT = 73  # bytes of the program
NET_ENDED = 74  # empty: no more of them will come
NET_MORE = 75  # four bytes: so many bytes were taken by the program, as many more may come
NET_LOST = 76  # empty: the program has cut it; only NET_CLOSED follows
NET_CLOSED = 77  # empty: last frame of the connection; only when the host closes it

NET_WINDOW = 1 << 18
"""Bytes of a connection that may be on their way, in each direction."""
NET_CONNECTIONS = 64
"""Connections at a time; a program that wants one more waits."""

# the first byte of DATA that answers FETCH
FILE_BEGIN, FILE_DATA, FILE_END, FILE_FAIL = b"B", b"D", b"E", b"F"


def marker(omitted: int) -> bytes:
    """What stands between head and tail of an output that was too long."""
    return b"\n... [%d bytes omitted] ...\n" % omitted
