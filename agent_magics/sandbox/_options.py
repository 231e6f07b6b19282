"""What can be said about the containers of a provider, beyond what it has to be."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["KubernetesOptions", "OciOptions", "ProviderOptions"]

IMAGE = "docker.io/library/python:3.12-slim"
"""Any image with bash and a python3 that has its standard library will do."""
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class OciOptions:
    """
    Containers of podman and docker.

    `python`: "image", the commands' Python is the image's own, or "host", the notebook's becomes
    readable inside and is used; it runs only in an image that is much like this system.
    `cgroup_limits`: let the kernel hold memory and processes of the container as a whole; where
    cgroups can't be had, the agent program's own watching remains. `tmp_size` in bytes, of memory.
    `arguments` go to `run` as they are ("--runtime=runsc", "--gpus=all"); they may undo isolation.
    """

    image: str = IMAGE
    python: str = "image"
    cgroup_limits: bool = True
    tmp_size: int = 512 * MEGABYTE
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class KubernetesOptions:
    """
    Pods of a cluster.

    `context` and `kubeconfig` name a cluster and a file; without them it is the current context,
    or, inside a cluster, that one. `namespace`: default, the context's. `storage`: "emptyDir", the
    files live as long as the pod, or "pvc", in a volume claim of `storage_class`. `cpu`: a
    quantity such as "2". `start_timeout` in seconds, for the scheduler and the image.
    `network_policy`: start pods only where the policy that closes their network is there.
    """

    image: str = IMAGE
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    service_account: str | None = None
    pull_secret: str | None = None
    storage: str = "emptyDir"
    storage_class: str | None = None
    cpu: str = "2"
    runtime_class: str | None = None
    start_timeout: int = 180
    network_policy: bool = True


@dataclass(frozen=True)
class ProviderOptions:
    """Of each provider that has any."""

    podman: OciOptions = field(default_factory=OciOptions)
    docker: OciOptions = field(default_factory=OciOptions)
    kubernetes: KubernetesOptions = field(default_factory=KubernetesOptions)
