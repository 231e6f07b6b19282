"""The cluster's API, as far as sessions need it. kubernetes_asyncio is imported when it is used."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ._errors import SandboxUnavailable
from ._kube_pod import NETWORK_POLICY
from ._options import KubernetesOptions

__all__ = ["Cluster", "connect", "manifest"]

REQUEST_TIMEOUT = 30
"""Seconds for one answer of the API."""
HEARTBEAT = 20.0
"""Seconds between signs of life on a connection into a pod."""
_READ_BUFFER = 1 << 21
"""Bytes of one answer, as kubernetes_asyncio's own session has it."""
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def manifest() -> Path:
    """The file with what a cluster needs: namespace, rights, network policy, an engine in it."""
    return Path(__file__).with_name("kubernetes.yaml")


class Cluster:
    """
    Pods and volume claims of one namespace, in the JSON of the API.

    Every method raises SandboxUnavailable, with what to do, when the cluster refuses or is away.
    """

    def __init__(self, library: Any, configuration: Any, client: Any, namespace: str) -> None:
        self.namespace = namespace
        self._library = library
        self._configuration = configuration
        self._client = client
        self._core = library.client.CoreV1Api(client)

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """A "pod" or "persistent_volume_claim", or None."""
        found: dict[str, Any] | None = await self._call(f"read_namespaced_{kind}", name)
        return found

    async def create(self, kind: str, body: dict[str, Any]) -> None:
        await self._call(f"create_namespaced_{kind}", body=body)

    async def delete(self, kind: str, name: str) -> None:
        """At once; it may not be there any more."""
        await self._call(f"delete_namespaced_{kind}", name, grace_period_seconds=0)

    async def select(self, kind: str, selector: str) -> list[dict[str, Any]]:
        found = await self._call(f"list_namespaced_{kind}", label_selector=selector)
        return list((found or {}).get("items", []))

    async def has_network_policy(self) -> bool:
        """Whether the policy that closes the sessions' network is there."""
        api = self._library.client.NetworkingV1Api(self._client)
        policy = "read_namespaced_network_policy"
        return await self._call(policy, NETWORK_POLICY, api=api) is not None

    @asynccontextmanager
    async def open_exec(self, pod: str, command: list[str]) -> AsyncIterator[Any]:
        """A WebSocket to the stdin, stdout and stderr of a process in the pod."""
        query = [("command", word) for word in command]
        query += [("container", "agent"), ("stdin", "true"), ("stdout", "true")]
        query += [("stderr", "true"), ("tty", "false")]
        path = f"/api/v1/namespaces/{quote(self.namespace)}/pods/{quote(pod)}/exec"
        headers: dict[str, str] = {}
        # not by the package's own WebSocket client: each reads the machine's certificates anew
        await self._client.update_params_for_auth(headers, [], ["BearerToken"])
        with _explained(self._library, self.namespace):
            socket = await self._client.rest_client.pool_manager.ws_connect(
                f"{self._configuration.host}{path}?{urlencode(query)}",
                headers=headers,
                heartbeat=HEARTBEAT,
                protocols=_PROTOCOLS,
                proxy=self._configuration.proxy,
            )
        try:
            yield socket
        finally:
            await socket.close()

    async def _call(self, method: str, *arguments: str, api: Any = None, **more: Any) -> Any:
        library = self._library
        call = getattr(api or self._core, method)
        with _explained(library, self.namespace):
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    found = await call(*arguments, self.namespace, **more)
            except library.client.ApiException as error:
                if error.status == 404 and method.startswith(("read", "delete")):
                    return None
                raise
        return self._client.sanitize_for_serialization(found)


@asynccontextmanager
async def connect(options: KubernetesOptions) -> AsyncIterator[Cluster]:
    """The cluster that is configured. Raises SandboxUnavailable."""
    from ..wire import is_loopback  # this package works by itself where there is no cluster

    library = await asyncio.to_thread(_library)
    configuration = library.client.Configuration()
    try:
        namespace = await _load(library, options, configuration)
    except (library.config.ConfigException, OSError) as error:
        raise SandboxUnavailable(
            f"No cluster is configured: {str(error).strip().rstrip('.')}.",
            "Name one: KUBECONFIG, or kubeconfig and context below [sandbox.kubernetes]; "
            "kubectl config current-context tells which it is.",
        ) from error
    async with library.client.ApiClient(configuration) as client:
        if is_loopback(configuration.host):
            _reach_directly(client.rest_client)
        yield Cluster(library, configuration, client, namespace)


def _reach_directly(rest: Any) -> None:
    """Replace a client's session, which reads proxies from the environment, by one that doesn't."""
    session = rest.pool_manager
    rest.pool_manager = importlib.import_module("aiohttp").ClientSession(
        connector=session.connector, trust_env=False, read_bufsize=_READ_BUFFER
    )
    session.detach()


def _library() -> Any:
    try:
        for part in ("client", "config"):
            importlib.import_module(f"kubernetes_asyncio.{part}")
    except ImportError as error:
        raise SandboxUnavailable(
            f"The Python package {error.name} is not installed.",
            "pip install 'agent-magics[kubernetes]'",
        ) from error
    return importlib.import_module("kubernetes_asyncio")


async def _load(library: Any, options: KubernetesOptions, configuration: Any) -> str:
    """Fill in the configuration; returns the namespace."""
    named = options.kubeconfig or os.environ.get("KUBECONFIG", "")
    file = Path(named or "~/.kube/config").expanduser()
    if not named and not file.exists() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        library.config.load_incluster_config(client_configuration=configuration)
        own = _OWN_NAMESPACE.read_text("ascii").strip() if _OWN_NAMESPACE.exists() else ""
        return options.namespace or own or "default"
    loader = await library.config.load_kube_config(
        config_file=named or str(file),
        context=options.context,
        client_configuration=configuration,
        persist_config=False,
    )
    context = loader.current_context.get("context") or {}
    return options.namespace or context.get("namespace") or "default"


class _explained:  # noqa: N801 - reads as a function
    """Turns what the client raises into SandboxUnavailable."""

    def __init__(self, library: Any, namespace: str) -> None:
        self._aiohttp = importlib.import_module("aiohttp")
        self._api_error = library.client.ApiException
        self._namespace = namespace

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, self._api_error):
            raise _refused(error.status, _message(error), self._namespace) from error
        if isinstance(error, self._aiohttp.WSServerHandshakeError):
            raise _refused(error.status, error.message, self._namespace) from error
        if isinstance(error, self._aiohttp.ClientError | OSError | TimeoutError):
            raise SandboxUnavailable(
                f"The cluster's API can't be reached: {str(error) or 'no answer'}.",
                "Check the network, and that kubectl get pods works; then try again.",
            ) from error


def _message(error: Any) -> str:
    """What the API says about its refusal."""
    try:
        said = json.loads(error.body or "{}").get("message")
    except (ValueError, AttributeError):
        said = None
    return str(said or error.reason or "no reason given")


def _refused(status: Any, message: str, namespace: str) -> SandboxUnavailable:
    text = message.strip().rstrip(".")
    if status == 401:
        return SandboxUnavailable(
            f"The cluster does not know who is asking: {text}.",
            "Sign in again; kubectl auth whoami tells who you are to it.",
        )
    if status == 403 and "quota" not in text:
        return SandboxUnavailable(
            f"The cluster does not allow it: {text}.",
            f"Give this account the rights of the Role in {manifest()}, in the namespace "
            f"{namespace}: kubectl auth can-i create pods -n {namespace}",
        )
    if status == 403:
        return SandboxUnavailable(
            f"The namespace has no room: {text}.",
            "End sessions that are not needed any more, or ask for a larger quota.",
        )
    if status == 404:
        return SandboxUnavailable(
            f"The cluster does not find it: {text}.",
            f"Is there a namespace {namespace}? kubectl get namespaces",
        )
    return SandboxUnavailable(
        f"The cluster's API answers {status}: {text}.",
        f"kubectl get events -n {namespace} may tell more; then try again.",
    )
