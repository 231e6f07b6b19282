"""What the cluster is asked for: a session's pod, and its volume claim. Shapes of Kubernetes v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._options import KubernetesOptions
from ._types import Limits

__all__ = ["APP", "NETWORK_POLICY", "OWNER", "SESSION", "PodName", "claim", "pod"]

APP = "agent-magics-session"
"""Label app.kubernetes.io/name of all session pods; the network policy selects by it."""
NETWORK_POLICY = "agent-magics-sessions"
OWNER = "agent-magics/owner"
"""Label: whose sessions these are."""
SESSION = "agent-magics/session"
"""Annotation: the session's directory where its engine runs. When that is gone, so may this be."""
USER = 10001
MEGABYTE = 1 << 20

# As PID 1 it takes in orphans and does nothing else; the agent program comes and goes beside it.
_IDLE = (
    "import signal,os,sys\n"
    "signal.signal(signal.SIGCHLD,signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM,lambda *_:os._exit(0))\n"
    "while True:signal.pause()"
)


@dataclass(frozen=True)
class PodName:
    """`name` of the pod and its claim, `owner` of the engine's data, `session` its directory."""

    name: str
    owner: str
    session: str


def claim(name: PodName, options: KubernetesOptions, limits: Limits) -> dict[str, Any]:
    """The volume of a session whose files shall outlive its pod."""
    specification: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(limits.disk or 10 << 30)}},
    }
    if options.storage_class:
        specification["storageClassName"] = options.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(name),
        "spec": specification,
    }


def pod(name: PodName, options: KubernetesOptions, limits: Limits) -> dict[str, Any]:
    """A pod that waits for commands: no token, no privileges, nothing to write to but volumes."""
    specification: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [_container(options, limits)],
        "enableServiceLinks": False,
        "hostname": "agent",
        "restartPolicy": "Never",
        "securityContext": {
            "fsGroup": USER,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 1,
        "volumes": [_workspace(name, options, limits), *_scratch(limits)],
    }
    if options.service_account:
        specification["serviceAccountName"] = options.service_account
    if options.pull_secret:
        specification["imagePullSecrets"] = [{"name": options.pull_secret}]
    if options.runtime_class:
        specification["runtimeClassName"] = options.runtime_class
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(name), "spec": specification}


def _metadata(name: PodName) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/managed-by": "agent-magics",
        "app.kubernetes.io/name": APP,
        OWNER: name.owner,
    }
    return {"name": name.name, "labels": labels, "annotations": {SESSION: name.session}}


def _container(options: KubernetesOptions, limits: Limits) -> dict[str, Any]:
    most = {"cpu": options.cpu, "ephemeral-storage": _megabytes(limits.disk)}
    if limits.memory is not None:
        most["memory"] = _megabytes(limits.memory)
    return {
        "command": ["python3", "-I", "-S", "-c", _IDLE],
        "env": [{"name": "AGENT_MAGICS_POD", "value": "1"}],
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "name": "agent",
        "resources": {
            "limits": {key: value for key, value in most.items() if value},
            "requests": {"cpu": "100m", "memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "workingDir": "/workspace",
    }


def _workspace(name: PodName, options: KubernetesOptions, limits: Limits) -> dict[str, Any]:
    if options.storage == "pvc":
        return {"name": "workspace", "persistentVolumeClaim": {"claimName": name.name}}
    return {"name": "workspace", "emptyDir": _size(limits.disk)}


def _scratch(limits: Limits) -> list[dict[str, Any]]:
    memory = {"medium": "Memory", **_size(limits.shared_memory)}
    return [{"name": "tmp", "emptyDir": _size(limits.disk)}, {"name": "shm", "emptyDir": memory}]


def _size(limit: int | None) -> dict[str, Any]:
    return {} if limit is None else {"sizeLimit": _megabytes(limit)}


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{max(1, size // MEGABYTE)}Mi"
