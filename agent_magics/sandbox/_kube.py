"""A pod per session, with the agent program in it on the other end of a WebSocket."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import posixpath
import re
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ._agent import BOOTSTRAP
from ._environ import command_environ
from ._errors import SandboxUnavailable
from ._kube_cluster import Cluster, connect, manifest
from ._kube_exec import carry
from ._kube_pod import NETWORK_POLICY, OWNER, SESSION, PodName, claim, pod
from ._network import NetworkLink
from ._options import KubernetesOptions
from ._provider import agent_config
from ._quotas import quota_config
from ._remote import RemoteProcess
from ._types import Limits, PythonEnv

__all__ = ["Kubernetes"]

log = logging.getLogger(__name__)

IMAGE_PYTHON = PythonEnv("/usr/local/bin/python3", ())
POD, CLAIM = "pod", "persistent_volume_claim"
OWNER_FILE = ".kubernetes-owner"
ENDED_FOLDER = ".kubernetes-ended"
"""In the directory of all sessions: names of pods whose sessions were ended."""
POLL = 0.25
LONGEST_POLL = 2.0
HOPELESS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull"}
    | {"ImageInspectError", "ImagePullBackOff", "InvalidImageName", "RunContainerError"}
)
"""Reasons for which a container waits that do not go away by waiting."""

_ALONE = "import os\nif os.environ.get('AGENT_MAGICS_POD'):os.kill(-1,9)\n"
"""Ends what an agent program that was cut off has left: in a pod everything but its PID 1."""

_swept: set[str] = set()


class Kubernetes:
    """
    A session in a pod of its own.

    The pod stays when the session's agent program is stopped, for its files (emptyDir) live as
    long as it does; with a volume claim (storage "pvc") it goes. Before a session's pod is deleted
    with its files that is written down in the directory of all sessions; what the cluster did not
    carry out then is finished when an engine with the same data starts its first pod. Other pods
    stay, also those whose session is not there.
    """

    name = "kubernetes"
    isolated = True
    workspace = "/workspace"

    def __init__(
        self,
        root: Path,
        limits: Limits,
        options: KubernetesOptions,
        link: NetworkLink | None = None,
    ) -> None:
        self._root = root
        self._limits = limits
        self._options = options
        self._link = link
        self.environ: Mapping[str, str] = command_environ(
            IMAGE_PYTHON, workspace=self.workspace, tmp="/tmp", extra_path="/usr/games"
        )

    def inner(self, path: str) -> str:
        return posixpath.join(self.workspace, path)

    def outer(self, path: str) -> str:
        return path

    def config(self) -> dict[str, Any]:
        config = agent_config(self._limits, workspace=self.workspace, tmp="/tmp", isolated=True)
        config["rlimits"].pop("nproc", None)  # the node counts all pods of that user together
        config["quotas"] = quota_config(None)
        if self._link is not None:
            config["network"] = self._link.config()
        return config

    def complaint(self, message: str) -> SandboxUnavailable:
        said = message.strip().splitlines()[-1][:300].rstrip(".") if message.strip() else ""
        return SandboxUnavailable(
            f"The agent program did not start in the pod: {said or 'no message'}.",
            f"The image {self._options.image} needs python3 with its standard library, and bash.",
        )

    async def spawn(self, stderr: int) -> RemoteProcess:
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(connect(self._options))
            name = await asyncio.to_thread(self._name)
            if name.owner not in _swept:
                _swept.add(name.owner)
                await _sweep(cluster, name.owner, self._root.parent / ENDED_FOLDER)
            await self._require_policy(cluster)
            await self._running(cluster, name)
            return await _open(cluster, name.name, os.dup(stderr), stack.pop_all())

    async def clear(self, *, files: bool) -> None:
        """The pod goes when its files may, or are not in it."""
        if not self._root.exists() or (not files and self._options.storage == "emptyDir"):
            return
        name = await asyncio.to_thread(self._name)
        ended = self._root.parent / ENDED_FOLDER / name.name
        if files:
            await asyncio.to_thread(_write_down, ended)
        async with connect(self._options) as cluster:
            await cluster.delete(POD, name.name)
            if files and self._options.storage == "pvc":
                await cluster.delete(CLAIM, name.name)
        if files:
            await asyncio.to_thread(ended.unlink, missing_ok=True)

    def _name(self) -> PodName:
        """Of this session for ever, also for a later engine; marks the session as there."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = _owner(self._root.parent / OWNER_FILE)
        except OSError as error:
            raise SandboxUnavailable(
                f"The session can't be prepared: {error}.", f"Check the owner of {self._root}."
            ) from error
        plain = re.sub(r"[^a-z0-9]+", "-", self._root.name.lower()).strip("-")[:30]
        digest = hashlib.sha256(f"{owner} {self._root.name}".encode()).hexdigest()[:10]
        return PodName(f"agent-{plain or 'session'}-{digest}", owner, str(self._root))

    async def _require_policy(self, cluster: Cluster) -> None:
        if self._options.network_policy and not await cluster.has_network_policy():
            raise SandboxUnavailable(
                f"The namespace {cluster.namespace} has no network policy {NETWORK_POLICY}, so "
                "commands could reach the cluster's network.",
                f"kubectl apply -n {cluster.namespace} -f with that policy of {manifest()}; or, if "
                "that is as you want it, network_policy = false below [sandbox.kubernetes].",
            )

    async def _running(self, cluster: Cluster, name: PodName) -> None:
        """Have the pod, and wait until commands can run in it."""
        found = await cluster.get(POD, name.name)
        if found is not None and _is_over(found):
            await cluster.delete(POD, name.name)
            await self._gone(cluster, name)
            found = None
        if found is None:
            if self._options.storage == "pvc" and await cluster.get(CLAIM, name.name) is None:
                await cluster.create(CLAIM, claim(name, self._options, self._limits))
            await cluster.create(POD, pod(name, self._options, self._limits))
        try:
            await self._ready(cluster, name)
        except SandboxUnavailable:
            if found is None:  # one that never ran has no files
                await cluster.delete(POD, name.name)
            raise

    async def _gone(self, cluster: Cluster, name: PodName) -> None:
        nap, deadline = POLL, _now() + self._options.start_timeout
        while await cluster.get(POD, name.name) is not None:
            if _now() > deadline:
                raise SandboxUnavailable(
                    "The session's former pod does not go away.",
                    f"kubectl delete pod {name.name} -n {cluster.namespace} --force",
                )
            await asyncio.sleep(nap)
            nap = min(LONGEST_POLL, nap * 1.5)

    async def _ready(self, cluster: Cluster, name: PodName) -> None:
        nap, deadline = POLL, _now() + self._options.start_timeout
        while True:
            found = await cluster.get(POD, name.name) or {}
            status = found.get("status") or {}
            waiting = _waiting(status)
            if status.get("phase") == "Running" and waiting is None:
                return
            if not found or _is_over(found):
                raise SandboxUnavailable(f"The pod ended at once: {_ending(status)}.", _look(name))
            reason, message = waiting or ("", "")
            if reason in HOPELESS:
                raise _cannot_run(reason, message, self._options.image, _look(name))
            if _now() > deadline:
                said = _unscheduled(status) or message or reason or "no reason is given"
                raise SandboxUnavailable(
                    f"The pod did not start within {self._options.start_timeout} seconds: "
                    f"{said.rstrip('.')}.",
                    f"{_look(name)} (start_timeout below [sandbox.kubernetes] is how long to wait)",
                )
            await asyncio.sleep(nap)
            nap = min(LONGEST_POLL, nap * 1.5)


async def _open(cluster: Cluster, name: str, stderr: int, stack: AsyncExitStack) -> RemoteProcess:
    """The agent program in the pod, connected; in the end it closes `stderr` and the stack."""
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        command = ["python3", "-I", "-S", "-c", _ALONE + BOOTSTRAP]
        try:
            async with stack, cluster.open_exec(name, command) as socket:
                opened.set_result(None)
                ours = await carry(socket, reader, writer, stderr)
                return "" if ours else await _why(cluster, name)
        except SandboxUnavailable as error:
            if opened.done():
                return error.reason
            opened.set_exception(error)
            return ""
        finally:
            os.close(stderr)

    process = await RemoteProcess.start(bridge)
    try:
        await opened
    except BaseException:
        process.cut()
        raise
    return process


def _now() -> float:
    return asyncio.get_running_loop().time()


def _owner(path: Path) -> str:
    """A name for all sessions beside each other, that stays."""
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return path.read_text("ascii").strip()


def _write_down(path: Path) -> None:
    """Durably; raises OSError, and then nothing may be deleted."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("wb") as file:
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _sweep(cluster: Cluster, owner: str, folder: Path) -> None:
    """Remove pods and claims of this owner's sessions that were ended, as `folder` says."""
    ended = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for kind in (POD, CLAIM):
        for found in await cluster.select(kind, f"{OWNER}={owner}"):
            metadata = found["metadata"]
            session = (metadata.get("annotations") or {}).get(SESSION)
            if metadata["name"] in ended:
                await cluster.delete(kind, metadata["name"])
            elif session is not None and not Path(session).exists():
                log.warning(
                    "the %s %s belongs to no session of this engine and is kept: kubectl delete %s "
                    "%s -n %s removes it and its files",
                    kind.replace("_", " "),
                    metadata["name"],
                    kind.replace("_", ""),
                    metadata["name"],
                    cluster.namespace,
                )
    for name in ended:
        (folder / name).unlink(missing_ok=True)


async def _why(cluster: Cluster, name: str) -> str:
    """Why the connection into a pod has ended."""
    try:
        found = await cluster.get(POD, name)
    except SandboxUnavailable as error:
        return f"the connection to the pod was cut; {error.reason.rstrip('.')}"
    if found is None:
        return "the pod was deleted, and its files with it, unless they are in a volume claim"
    if _is_over(found):
        return f"the pod has ended, and its files with it: {_ending(found.get('status') or {})}"
    return "the connection to the pod was cut, or its agent program ended; files are kept"


def _is_over(found: Mapping[str, Any]) -> bool:
    phase = (found.get("status") or {}).get("phase")
    return phase in ("Failed", "Succeeded") or "deletionTimestamp" in found["metadata"]


def _ending(status: Mapping[str, Any]) -> str:
    """Evicted, out of memory, or whatever the cluster says."""
    said = [str(status[key]) for key in ("reason", "message") if status.get(key)]
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated") or {}
        said += [f"{ended.get('reason')} {ended.get('message') or ''}".strip()] if ended else []
    return ", ".join(said).rstrip(".") or "no reason is given"


def _waiting(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the container waits for, and what is said about it; None: it runs."""
    containers = status.get("containerStatuses") or []
    if not containers:
        return "", ""
    waiting = (containers[0].get("state") or {}).get("waiting")
    if not waiting:
        return None
    return str(waiting.get("reason") or ""), str(waiting.get("message") or "")


def _unscheduled(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node takes it: {condition.get('message') or condition.get('reason')}"
    return ""


def _look(name: PodName) -> str:
    return f"kubectl describe pod {name.name} tells more."


def _cannot_run(reason: str, message: str, image: str, look: str) -> SandboxUnavailable:
    said = f"{reason}: {message}".rstrip(": .")
    if "Image" in reason:
        return SandboxUnavailable(
            f"The cluster can't get the image {image}: {said}.",
            "Check its name, that the nodes reach its registry, and pull_secret below "
            f"[sandbox.kubernetes]. {look}",
        )
    return SandboxUnavailable(f"The pod can't run: {said}.", look)
