"""The kinds of containers by name."""

from __future__ import annotations

from pathlib import Path

from ._bwrap import Bubblewrap
from ._errors import SandboxUnavailable
from ._kube import Kubernetes
from ._local import Local
from ._network import NetworkLink
from ._oci import Oci
from ._options import ProviderOptions
from ._provider import Provider
from ._types import Limits, PythonEnv

__all__ = ["PROVIDERS", "make_provider"]

PROVIDERS = ("auto", "bubblewrap", "podman", "docker", "kubernetes", "local")
"""What may be asked for; "auto" is bubblewrap, and never a silent other one."""


def make_provider(
    name: str,
    root: Path,
    python: PythonEnv,
    limits: Limits,
    options: ProviderOptions,
    link: NetworkLink | None,
) -> Provider:
    """
    Raises:
        SandboxUnavailable: containers of this kind have no way to the network.
        ValueError: unknown name.
    """
    if name in ("auto", "bubblewrap"):
        return Bubblewrap(root, python, limits, link)
    if link is not None and name in PROVIDERS:
        raise SandboxUnavailable(
            f"Containers of {name} have no network, and one is asked for.",
            "Make the session with network=False, write on = false below [network], or use "
            "bubblewrap.",
        )
    if name == "local":
        return Local(root, python, limits)
    if name == "podman":
        return Oci(name, root, python, limits, options.podman)
    if name == "docker":
        return Oci(name, root, python, limits, options.docker)
    if name == "kubernetes":
        return Kubernetes(root, limits, options.kubernetes)
    raise ValueError(f"unknown sandbox {name!r}: one of {', '.join(PROVIDERS)}")
