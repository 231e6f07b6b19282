"""The kinds of containers by name."""

from __future__ import annotations

from pathlib import Path

from ._bwrap import Bubblewrap
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
        ValueError: unknown name.
    """
    if name in ("auto", "bubblewrap"):
        return Bubblewrap(root, python, limits, link)
    if name == "local":
        return Local(root, python, limits)
    if name == "podman":
        return Oci(name, root, python, limits, options.podman, link)
    if name == "docker":
        return Oci(name, root, python, limits, options.docker, link)
    if name == "kubernetes":
        return Kubernetes(root, limits, options.kubernetes, link)
    raise ValueError(f"unknown sandbox {name!r}: one of {', '.join(PROVIDERS)}")
