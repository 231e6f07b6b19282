"""
The key `sandbox` of the configuration file: a provider's name, or a table.

    sandbox = "podman"

    [sandbox]
    provider = "podman"

    [sandbox.podman]                          # and the same for docker
    image = "docker.io/library/python:3.12-slim"
    python = "image"                          # or "host": the notebook's, where it runs in there
    cgroup_limits = true
    tmp_size = 512                            # megabytes
    arguments = ["--gpus=all"]                # further ones of `podman run`

    [sandbox.kubernetes]
    image = "docker.io/library/python:3.12-slim"
    namespace = "agents"                      # left out: the context's; see KubernetesOptions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from agent_magics.sandbox import PROVIDERS, KubernetesOptions, OciOptions, ProviderOptions

if TYPE_CHECKING:
    from ._config import ConfigError, Reader

__all__ = ["read_sandbox"]

_OPTIONS = ("podman", "docker", "kubernetes")


def read_sandbox(
    reader: Reader, data: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, ProviderOptions]:
    """The provider, which `AGENT_MAGICS_SANDBOX` overrides, and what is said of each one."""
    value = data.get("sandbox")
    table = value if isinstance(value, dict) else {}
    reader.only(table, "sandbox.", ("provider", *_OPTIONS))
    if isinstance(value, dict):
        key, configured = "sandbox.provider", reader.text(table, "provider", "sandbox.")
    else:
        key, configured = "sandbox", reader.text(data, "sandbox")
    named = environ.get("AGENT_MAGICS_SANDBOX", "").strip()
    provider = named or configured or "auto"
    if provider not in PROVIDERS:
        where = "AGENT_MAGICS_SANDBOX" if named else reader.where(key)
        raise _error(where, f"{provider!r} is not one of {', '.join(PROVIDERS)}.")
    options = ProviderOptions(
        podman=_oci(reader, table, "podman"),
        docker=_oci(reader, table, "docker"),
        kubernetes=_kubernetes(reader, table),
    )
    return provider, options


def _oci(reader: Reader, sandbox: Mapping[str, Any], name: str) -> OciOptions:
    table, prefix = reader.table(sandbox.get(name, {}), f"sandbox.{name}"), f"sandbox.{name}."
    default = OciOptions()
    reader.only(table, prefix, tuple(field.name for field in fields(OciOptions)))
    tmp_size = reader.count(table, "tmp_size", prefix)
    return OciOptions(
        image=reader.text(table, "image", prefix) or default.image,
        python=_choice(reader, table, prefix, "python", ("image", "host")),
        cgroup_limits=_switch(reader, table, prefix, "cgroup_limits"),
        tmp_size=default.tmp_size if tmp_size is None else tmp_size << 20,
        arguments=reader.texts(table, "arguments", prefix),
    )


def _kubernetes(reader: Reader, sandbox: Mapping[str, Any]) -> KubernetesOptions:
    prefix = "sandbox.kubernetes."
    table = reader.table(sandbox.get("kubernetes", {}), "sandbox.kubernetes")
    default = KubernetesOptions()
    reader.only(table, prefix, tuple(field.name for field in fields(KubernetesOptions)))
    return KubernetesOptions(
        image=reader.text(table, "image", prefix) or default.image,
        namespace=reader.text(table, "namespace", prefix),
        context=reader.text(table, "context", prefix),
        kubeconfig=reader.text(table, "kubeconfig", prefix),
        service_account=reader.text(table, "service_account", prefix),
        pull_secret=reader.text(table, "pull_secret", prefix),
        storage=_choice(reader, table, prefix, "storage", ("emptyDir", "pvc")),
        storage_class=reader.text(table, "storage_class", prefix),
        cpu=reader.text(table, "cpu", prefix) or default.cpu,
        runtime_class=reader.text(table, "runtime_class", prefix),
        network_policy=_switch(reader, table, prefix, "network_policy"),
        start_timeout=reader.count(table, "start_timeout", prefix) or default.start_timeout,
    )


def _choice(
    reader: Reader, table: Mapping[str, Any], prefix: str, key: str, allowed: tuple[str, ...]
) -> str:
    """One of `allowed`, of which the first is the default."""
    value = reader.text(table, key, prefix) or allowed[0]
    if value not in allowed:
        raise reader.error(prefix + key, f"must be one of {', '.join(allowed)}.")
    return value


def _switch(reader: Reader, table: Mapping[str, Any], prefix: str, key: str) -> bool:
    """On, unless it is switched off."""
    value = table.get(key, True)
    if not isinstance(value, bool):
        raise reader.error(prefix + key, "must be true or false.")
    return value


def _error(where: str, complaint: str) -> ConfigError:
    from ._config import ConfigError

    return ConfigError(f"{where}: {complaint}")
