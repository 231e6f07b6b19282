"""
A Kubernetes API server of the tests: pods, claims, a network policy, and exec over WebSockets.

It speaks the real protocol, v4 and v5 of `channel.k8s.io`. The pod's processes are those of a
bubblewrap container on this machine, which is as near to a pod as one gets without a cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from agent_magics.sandbox import Limits, PythonEnv
from agent_magics.sandbox._agent import BOOTSTRAP
from agent_magics.sandbox._bwrap import Bubblewrap
from agent_magics.sandbox._kube_pod import NETWORK_POLICY
from agent_magics.sandbox._trees import remove_tree

TOKEN = "token-of-the-test"
NAMESPACE = "agents"
BASE = "/api/v1/namespaces/{namespace}"
KINDS = {"pods": "Pod", "persistentvolumeclaims": "PersistentVolumeClaim"}


class FakeCluster:
    """
    `refuse` maps a verb and a kind ("create pods") to the status and message of the answer.
    `waits` is why containers don't start, as (reason, message); `unscheduled` why no node is found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.waits: tuple[str, str] | None = None
        self.unscheduled = ""
        self.policy = True
        self.protocols = ("v5.channel.k8s.io", "v4.channel.k8s.io")
        self.calls: list[str] = []
        self.url = ""
        self._running: dict[str, set[asyncio.subprocess.Process]] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    # what a test does to it

    def kubeconfig(self) -> Path:
        """A file that leads to this server."""
        path = self.folder / "kubeconfig"
        context = {"cluster": "fake", "user": "me", "namespace": NAMESPACE}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": context}],
        }
        path.write_text(json.dumps(document))
        return path

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        return self.objects["pods"]

    @property
    def claims(self) -> dict[str, dict[str, Any]]:
        return self.objects["persistentvolumeclaims"]

    async def evict(self, name: str) -> None:
        """As the kubelet does it on a node that is short of something."""
        message = "The node was low on resource: memory."
        self.pods[name]["status"] = {"phase": "Failed", "reason": "Evicted", "message": message}
        await self._end_processes(name)

    async def cut(self) -> None:
        """Break every connection into a pod, as a proxy that goes away does."""
        for socket in list(self._sockets):
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()

    async def start(self) -> None:
        """Also after `stop`, on the same port with the same pods."""
        app = web.Application()
        for kind in KINDS:
            app.router.add_get(f"{BASE}/{kind}", self._list)
            app.router.add_post(f"{BASE}/{kind}", self._create)
            app.router.add_get(f"{BASE}/{kind}/{{name}}", self._read)
            app.router.add_delete(f"{BASE}/{kind}/{{name}}", self._delete)
        app.router.add_get(f"{BASE}/pods/{{name}}/exec", self._exec)
        policies = "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}"
        app.router.add_get(policies, self._policy)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        for name in list(self.pods):
            await self._end_processes(name)
        await self.stop()
        for folder in self.folder.glob("pod-*"):
            for part in ("workspace", "tmp"):
                await asyncio.to_thread(remove_tree, folder / part)

    # the API

    def _kind(self, request: web.Request) -> str:
        return request.path.removeprefix("/api/v1/namespaces/").split("/")[1]

    def _admit(self, request: web.Request, verb: str, kind: str) -> None:
        self.calls.append(f"{verb} {kind} {request.match_info.get('name', '')}".strip())
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _failure(401, "Unauthorized")
        if request.match_info["namespace"] != NAMESPACE:
            raise _failure(404, f'namespaces "{request.match_info["namespace"]}" not found')
        if f"{verb} {kind}" in self.refuse:
            raise _failure(*self.refuse[f"{verb} {kind}"])

    def _find(self, request: web.Request, kind: str) -> dict[str, Any]:
        name = request.match_info["name"]
        if name not in self.objects[kind]:
            raise _failure(404, f'{kind} "{name}" not found')
        return self.objects[kind][name]

    async def _list(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        self._admit(request, "list", kind)
        key, _, value = request.query.get("labelSelector", "").partition("=")
        items = [
            found
            for found in self.objects[kind].values()
            if not key or found["metadata"].get("labels", {}).get(key) == value
        ]
        return web.json_response({"kind": f"{KINDS[kind]}List", "metadata": {}, "items": items})

    async def _create(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        self._admit(request, "create", kind)
        body: dict[str, Any] = await request.json()
        name = body["metadata"]["name"]
        if name in self.objects[kind]:
            raise _failure(409, f'{kind} "{name}" already exists')
        body["metadata"]["namespace"] = NAMESPACE
        self.objects[kind][name] = body
        if kind == "pods":
            body["status"] = {"phase": "Pending"}
            asyncio.get_running_loop().call_later(0.05, self._schedule, body)
        return web.json_response(body, status=201)

    def _schedule(self, pod: dict[str, Any]) -> None:
        """What scheduler and kubelet do some time after a pod was made."""
        if self.unscheduled:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"] = [{**condition, "message": self.unscheduled}]
        elif self.waits is not None:
            reason, message = self.waits
            waiting = {"waiting": {"reason": reason, "message": message}}
            pod["status"]["containerStatuses"] = [_container(pod, waiting)]
        else:
            running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            status = {"phase": "Running", "containerStatuses": [_container(pod, running)]}
            pod["status"] = status

    async def _read(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        self._admit(request, "get", kind)
        return web.json_response(self._find(request, kind))

    async def _delete(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        self._admit(request, "delete", kind)
        found = self._find(request, kind)
        del self.objects[kind][request.match_info["name"]]
        if kind == "pods":
            name = request.match_info["name"]
            await self._end_processes(name)
            if not any("persistentVolumeClaim" in v for v in found["spec"]["volumes"]):
                for part in ("workspace", "tmp"):
                    await asyncio.to_thread(remove_tree, self.folder / f"pod-{name}" / part)
        return web.json_response(found)

    async def _policy(self, request: web.Request) -> web.Response:
        self._admit(request, "get", "networkpolicies")
        if not self.policy or request.match_info["name"] != NETWORK_POLICY:
            raise _failure(404, "networkpolicies not found")
        return web.json_response({"metadata": {"name": NETWORK_POLICY}, "spec": {}})

    # exec

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        self._admit(request, "exec", "pods")
        pod = self._find(request, "pods")
        if pod["status"].get("phase") != "Running":
            raise _failure(400, "pod is not running")
        command = request.query.getall("command")
        assert command[:4] == ["python3", "-I", "-S", "-c"] and command[4].endswith(BOOTSTRAP)
        assert len(str(request.rel_url)) < 8000
        for stream in ("stdin", "stdout", "stderr"):
            assert request.query[stream].lower() == "true"
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await self._serve(socket, pod["metadata"]["name"])
        finally:
            self._sockets.discard(socket)
        return socket

    async def _serve(self, socket: web.WebSocketResponse, name: str) -> None:
        for channel in (1, 2, 3):  # a cluster opens each channel with an empty message
            await socket.send_bytes(bytes([channel]))
        root = self.folder / f"pod-{name}"
        with tempfile.TemporaryFile(buffering=0) as stderr:
            container = Bubblewrap(root, PythonEnv.current(), Limits())
            process = await container.spawn(stderr.fileno())
            self._running.setdefault(name, set()).add(process)
            up = asyncio.create_task(_input(socket, process))
            try:
                await _output(socket, process, stderr.fileno())
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()
                self._running[name].discard(process)

    async def _end_processes(self, name: str) -> None:
        for process in list(self._running.get(name, ())):
            with suppress(ProcessLookupError):
                os.kill(process.pid, 9)
            await process.wait()


async def _input(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    try:
        async for message in socket:
            assert message.type == WSMsgType.BINARY and message.data
            channel, data = message.data[0], message.data[1:]
            if channel == 255:
                assert data == b"\0" and socket.ws_protocol == "v5.channel.k8s.io"
                break
            assert channel == 0
            process.stdin.write(data)
            await process.stdin.drain()
    except ConnectionError:
        return
    finally:
        process.stdin.close()


async def _output(
    socket: web.WebSocketResponse, process: asyncio.subprocess.Process, stderr: int
) -> None:
    assert process.stdout is not None
    with suppress(ConnectionError):
        while data := await process.stdout.read(32768):
            await socket.send_bytes(b"\1" + data)
        code = await process.wait()
        if complaint := os.pread(stderr, 4000, 0):
            await socket.send_bytes(b"\2" + complaint)
        if code == 0:
            status: dict[str, Any] = {"status": "Success", "metadata": {}}
        else:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            message = f"command terminated with non-zero exit code: {code}"
            status = {"status": "Failure", "reason": "NonZeroExitCode", "message": message}
            status["details"] = {"causes": causes}
        await socket.send_bytes(b"\3" + json.dumps(status).encode())
        await socket.close(code=WSCloseCode.OK)


def _container(pod: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    return {
        "name": "agent",
        "image": image,
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _failure(status: int, message: str) -> web.HTTPException:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    failure = {400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 403: web.HTTPForbidden}
    kinds = {**failure, 404: web.HTTPNotFound, 409: web.HTTPConflict}
    kind = kinds.get(status, web.HTTPInternalServerError)
    return kind(text=json.dumps(body), content_type="application/json")


@asynccontextmanager
async def fake_cluster(folder: Path) -> AsyncIterator[FakeCluster]:
    """A running one, whose files are below `folder`."""
    cluster = FakeCluster(folder)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.close()
