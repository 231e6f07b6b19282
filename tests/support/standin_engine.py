"""
Run as a module by the launcher's tests: the least that the launcher takes for an engine.

`STANDIN` in the environment makes it misbehave: "fail" (ends at once), "mute" (never ready),
"new" (speaks a newer protocol), "old" (an older one), "sick" (says that it is not healthy),
"busy" (has turns).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    arguments = parser.parse_args()
    mode = os.environ.get("STANDIN", "")
    with (arguments.state_dir / "started").open("a") as started:
        started.write(f"{os.getpid()}\n")
    print("a line in the log", flush=True)
    if mode == "fail":
        sys.exit("something is wrong here")
    path = arguments.state_dir / "engine.sock"
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    info = {"pid": os.getpid(), "version": "9", "protocol": 1, "token": "t"}
    (arguments.state_dir / "engine.work").write_text("1\n" if mode == "busy" else "0\n")
    (arguments.state_dir / "engine.json").write_text(json.dumps(info))
    if mode != "mute":
        os.write(arguments.ready_fd, b"ready\n")
    os.close(arguments.ready_fd)
    serve(server, mode)


def serve(server: socket.socket, mode: str) -> None:
    protocol = {"new": 2, "old": 0}.get(mode, 1)
    health = {
        "healthy": mode != "sick",
        "version": "9",
        "engine": "agent-magics",
        "protocol": protocol,
    }
    body = json.dumps(health).encode()
    while mode == "mute":
        signal.pause()
    while True:
        connection, _ = server.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)


if __name__ == "__main__":
    main()
