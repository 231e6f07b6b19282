"""What the cluster is asked for, and what is made of its answers and failures."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

pytest.importorskip("kubernetes_asyncio", reason="THE EXTRA kubernetes IS NOT INSTALLED")

from agent_magics.client import AsyncClient
from agent_magics.sandbox import (
    KubernetesOptions,
    Limits,
    ProviderOptions,
    Sandbox,
    SandboxGone,
    SandboxUnavailable,
    open_sandbox,
)
from agent_magics.sandbox import _kube as kube_module
from agent_magics.sandbox import _kube_cluster as cluster_module
from agent_magics.sandbox._kube_pod import APP, NETWORK_POLICY
from tests.support.fake_cluster import KINDS, NAMESPACE, TOKEN, FakeCluster, fake_cluster
from tests.support.processes import eventually, with_argument
from tests.support.tcp_server import TcpServer

pytestmark = pytest.mark.container

PATIENCE = 60.0


@pytest.fixture
async def cluster(
    tmp_path: Path, needs_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr(kube_module, "POLL", 0.02)
    # the fake has no TLS, and reading the machine's certificates takes longer than all the rest
    monkeypatch.setattr("ssl.create_default_context", functools.cache(ssl.create_default_context))
    async with fake_cluster(tmp_path) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions/ses_1"


@pytest.fixture
async def open_box(root: Path, cluster: FakeCluster) -> AsyncIterator[Callable[..., Sandbox]]:
    boxes: list[Sandbox] = []

    def open_one(at: Path = root, limits: Limits | None = None, **more: Any) -> Sandbox:
        more.setdefault("kubeconfig", str(cluster.kubeconfig()))
        options = ProviderOptions(kubernetes=KubernetesOptions(**more))
        boxes.append(open_sandbox(at, provider="kubernetes", options=options, limits=limits))
        return boxes[-1]

    yield open_one
    for box in boxes:
        await box.stop()


def only(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (value,) = found.values()
    return value


async def refused(box: Sandbox) -> SandboxUnavailable:
    with pytest.raises(SandboxUnavailable) as caught:
        await box.start()
    assert not box.alive
    return caught.value


async def test_the_pod(cluster: FakeCluster, open_box: Callable[..., Sandbox], root: Path) -> None:
    limits = Limits(memory=1 << 30, disk=2 << 30, shared_memory=1 << 20)
    box = open_box(
        limits=limits,
        image="img:1",
        cpu="3",
        service_account="nobody",
        pull_secret="secret",
        runtime_class="gvisor",
    )
    assert (box.provider, box.isolated) == ("kubernetes", True)
    await box.start()
    pod = only(cluster.pods)
    specification = pod["spec"]
    assert specification["automountServiceAccountToken"] is False
    assert specification["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(specification)
    security = specification["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = specification["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }
    most = {"cpu": "3", "ephemeral-storage": "2048Mi", "memory": "1024Mi"}
    assert container["resources"]["limits"] == most
    volumes = {volume["name"]: volume["emptyDir"] for volume in specification["volumes"]}
    assert volumes["workspace"] == {"sizeLimit": "2048Mi"}
    assert volumes["shm"] == {"medium": "Memory", "sizeLimit": "1Mi"}
    assert (container["image"], specification["serviceAccountName"]) == ("img:1", "nobody")
    assert specification["imagePullSecrets"] == [{"name": "secret"}]
    assert specification["runtimeClassName"] == "gvisor"
    assert pod["metadata"]["annotations"] == {"agent-magics/session": str(root)}
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "agent-magics-session"
    await box.destroy()
    assert cluster.pods == {} and not root.exists()


async def test_nothing_is_asked_of_a_session_that_never_started(
    cluster: FakeCluster, open_box: Callable[..., Sandbox]
) -> None:
    box = open_box()
    await box.stop()
    await box.destroy()
    assert cluster.calls == []


async def test_an_api_server_on_this_machine_is_reached_without_a_proxy(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 502 Proxied\r\nContent-Length: 0\r\n\r\n")

    proxy = TcpServer(refuse)
    address = f"http://127.0.0.1:{await proxy.start('127.0.0.1')}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.upper(), address)
    try:
        box = open_box()
        await box.start()
        assert (await box.run("echo there")).stdout == b"there\n"
        assert proxy.opened == 0
        await box.destroy()
    finally:
        await proxy.stop()


async def test_volume_claim(cluster: FakeCluster, open_box: Callable[..., Sandbox]) -> None:
    box = open_box(storage="pvc", storage_class="fast", limits=Limits(disk=1 << 30))
    await box.start()
    claim = only(cluster.claims)
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(1 << 30)}},
        "storageClassName": "fast",
    }
    workspace = only(cluster.pods)["spec"]["volumes"][0]
    assert workspace["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    await box.write_file("kept", b"x")
    await box.stop()
    assert cluster.pods == {} and len(cluster.claims) == 1
    await box.start()
    assert await box.read_file("kept") == b"x"
    await box.destroy()
    assert cluster.pods == {} and cluster.claims == {}


@pytest.mark.parametrize("version", ["v4", "v5"])
async def test_both_protocols(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], version: str, seconds: str
) -> None:
    cluster.protocols = (f"{version}.channel.k8s.io",)
    box = open_box()
    await box.start()
    await box.run(f"echo x > kept; sleep {seconds} &")
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await box.stop()
    await eventually(lambda: not with_argument(seconds))
    await box.start()
    assert await box.read_file("kept") == b"x\n"


async def test_a_later_engine_finds_the_pod(
    cluster: FakeCluster, open_box: Callable[..., Sandbox]
) -> None:
    box = open_box()
    await box.start()
    await box.write_file("kept", b"x")
    await cluster.cut()  # as if that engine had been killed
    later = open_box()
    await later.start()
    assert await later.read_file("kept") == b"x"
    assert len(cluster.pods) == 1


async def test_only_what_was_ended_is_swept(
    cluster: FakeCluster,
    open_box: Callable[..., Sandbox],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cluster was away when one session ended; the directory of another is lost."""
    ended, lost, stays = (root.with_name(f"ses_{name}") for name in ("ended", "lost", "stays"))
    boxes = {}
    for path in (ended, lost, stays):
        boxes[path] = box = open_box(path, storage="pvc")
        await box.start()
        await cluster.evict(only(cluster.pods)["metadata"]["name"])
        await box.stop()
    cluster.refuse["delete pods"] = 500, "the cluster is away"
    with pytest.raises(SandboxUnavailable):
        await boxes[ended].destroy()
    assert not ended.exists() and len(cluster.claims) == 3
    shutil.rmtree(lost)
    del cluster.refuse["delete pods"]
    others = {"name": "other", "labels": {"agent-magics/owner": "another"}}
    cluster.claims["other"] = {"metadata": others}
    monkeypatch.setattr(kube_module, "_swept", set())
    await open_box().start()
    annotations = [c["metadata"].get("annotations", {}) for c in cluster.claims.values()]
    kept = {found.get("agent-magics/session") for found in annotations}
    assert kept == {str(lost), str(stays), None}
    assert "belongs to no session of this engine and is kept: kubectl delete" in caplog.text
    assert list((root.parent / ".kubernetes-ended").iterdir()) == []


async def test_evicted_in_mid_command(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], seconds: str
) -> None:
    box = open_box()
    await box.start()
    task = asyncio.create_task(box.run(f"sleep {seconds}", timeout=None))
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await cluster.evict(only(cluster.pods)["metadata"]["name"])
    with pytest.raises(SandboxGone, match=r"and its files with it: Evicted, The node was low"):
        await task
    assert not box.alive
    await box.start()  # a new pod in the place of the one that failed
    assert (await box.run("ls")).stdout == b""


async def test_pod_deleted_by_somebody(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], seconds: str
) -> None:
    box = open_box()
    await box.start()
    task = asyncio.create_task(box.run(f"sleep {seconds}", timeout=None))
    await eventually(lambda: len(with_argument(seconds)) == 1)
    name = only(cluster.pods)["metadata"]["name"]
    cluster.pods.pop(name)
    await cluster._end_processes(name)
    with pytest.raises(SandboxGone, match="the pod was deleted"):
        await task


async def test_connection_cut(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], seconds: str
) -> None:
    box = open_box()
    await box.start()
    await box.write_file("kept", b"x")
    task = asyncio.create_task(box.run(f"sleep {seconds}", timeout=None))
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await cluster.cut()
    with pytest.raises(SandboxGone, match=r"connection to the pod was cut.*files are kept"):
        await task
    await eventually(lambda: not with_argument(seconds))
    await box.start()
    assert await box.read_file("kept") == b"x"


async def test_restart_of_the_api_server(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], seconds: str
) -> None:
    box = open_box()
    await box.start()
    await box.write_file("kept", b"x")
    task = asyncio.create_task(box.run(f"sleep {seconds}", timeout=None))
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await cluster.stop()
    with pytest.raises(SandboxGone, match=r"cut; The cluster's API can't be reached"):
        await task
    error = await refused(box)
    assert "can't be reached" in error.reason and "kubectl get pods" in error.next_step
    await cluster.start()
    await box.start()
    assert await box.read_file("kept") == b"x"


@pytest.mark.parametrize(
    ("refusal", "answer", "reason", "next_step"),
    [
        (
            "create pods",
            (403, 'pods is forbidden: User "me" cannot create resource "pods"'),
            'does not allow it: pods is forbidden: User "me" cannot create',
            "kubectl auth can-i create pods -n agents",
        ),
        (
            "create pods",
            (403, "pods is forbidden: exceeded quota: small, requested: pods=1"),
            "no room: pods is forbidden: exceeded quota",
            "larger quota",
        ),
        ("exec pods", (403, "no exec"), "does not allow it", "Role in"),
        ("get pods", (401, "Unauthorized"), "does not know who is asking", "Sign in again"),
        ("list pods", (500, "etcd is away"), "answers 500: etcd is away", "try again"),
    ],
)
async def test_refusals(
    cluster: FakeCluster,
    open_box: Callable[..., Sandbox],
    refusal: str,
    answer: tuple[int, str],
    reason: str,
    next_step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kube_module, "_swept", set())
    cluster.refuse[refusal] = answer
    error = await refused(open_box())
    assert reason in error.reason and next_step in error.next_step


@pytest.mark.parametrize(
    ("waits", "reason", "next_step"),
    [
        (("ImagePullBackOff", 'Back-off pulling image "img"'), "get the image img:", "pull_secret"),
        (("InvalidImageName", ""), "get the image img: InvalidImageName.", "its name"),
        (
            ("CreateContainerConfigError", "image will run as root"),
            "can't run: CreateContainerConfigError: image will run as root.",
            "kubectl describe pod agent-ses-1-",
        ),
    ],
)
async def test_pods_that_do_not_start(
    cluster: FakeCluster,
    open_box: Callable[..., Sandbox],
    waits: tuple[str, str],
    reason: str,
    next_step: str,
) -> None:
    cluster.waits = waits
    error = await refused(open_box(image="img"))
    assert reason in error.reason and next_step in error.next_step
    assert cluster.pods == {}


async def test_no_node_takes_it(cluster: FakeCluster, open_box: Callable[..., Sandbox]) -> None:
    cluster.unscheduled = "0/3 nodes are available: 3 Insufficient memory."
    error = await refused(open_box(start_timeout=3))
    assert "within 3 seconds: no node takes it: 0/3 nodes are available" in error.reason
    assert "start_timeout" in error.next_step
    cluster.unscheduled, cluster.waits = "", ("ContainerCreating", "")
    error = await refused(open_box(start_timeout=3))
    assert "within 3 seconds: ContainerCreating." in error.reason
    assert cluster.pods == {}


async def test_an_open_network_is_refused(
    cluster: FakeCluster, open_box: Callable[..., Sandbox]
) -> None:
    cluster.policy = False
    error = await refused(open_box())
    assert "no network policy agent-magics-sessions" in error.reason
    assert "kubernetes.yaml" in error.next_step and "network_policy = false" in error.next_step
    assert cluster.pods == {}
    await open_box(network_policy=False).start()
    assert len(cluster.pods) == 1


async def test_wrong_addresses(
    cluster: FakeCluster, open_box: Callable[..., Sandbox], tmp_path: Path
) -> None:
    error = await refused(open_box(namespace="elsewhere"))
    assert 'namespaces "elsewhere" not found' in error.reason
    assert "namespace elsewhere" in error.next_step
    error = await refused(open_box(context="nowhere"))
    assert "No cluster is configured" in error.reason and "nowhere" in error.reason
    error = await refused(open_box(kubeconfig=str(tmp_path / "missing")))
    assert "No cluster is configured" in error.reason and "KUBECONFIG" in error.next_step


async def test_inside_a_cluster(
    cluster: FakeCluster,
    open_box: Callable[..., Sandbox],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = tmp_path / "serviceaccount"
    own.mkdir()
    (own / "namespace").write_text(NAMESPACE)
    monkeypatch.setattr(cluster_module, "_OWN_NAMESPACE", own / "namespace")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")

    def load(client_configuration: Any) -> None:
        client_configuration.host = cluster.url
        client_configuration.api_key = {"BearerToken": f"Bearer {TOKEN}"}

    monkeypatch.setattr("kubernetes_asyncio.config.load_incluster_config", load)
    await open_box(kubeconfig=None).start()
    assert only(cluster.pods)["metadata"]["namespace"] == NAMESPACE


async def test_without_the_extra(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("kubernetes_asyncio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)
    error = await refused(open_sandbox(root, provider="kubernetes"))
    assert error.next_step == "pip install 'agent-magics[kubernetes]'"


def test_nothing_is_imported_before(root: Path) -> None:
    import subprocess

    program = (
        "import sys\nfrom pathlib import Path\nimport agent_magics.engine\n"
        "from agent_magics.sandbox import open_sandbox\n"
        "open_sandbox(Path('/nowhere'), provider='kubernetes')\n"
        "print([m for m in sys.modules if m.startswith(('kubernetes', 'aiohttp'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_manifests_fit_what_is_asked_for() -> None:
    documents = list(yaml.safe_load_all(cluster_module.manifest().read_text("utf-8")))
    by_kind: dict[str, Any] = {document["kind"]: document for document in documents}
    policy = by_kind["NetworkPolicy"]
    assert policy["metadata"]["name"] == NETWORK_POLICY
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": APP}},
        "policyTypes": ["Ingress", "Egress"],
    }
    namespaces = {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"}
    assert namespaces == {by_kind["Namespace"]["metadata"]["name"]}
    granted = {
        f"{verb} {resource}"
        for rule in by_kind["Role"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {f"{verb} {kind}" for verb in ("get", "list", "create", "delete") for kind in KINDS}
    assert granted == needed | {"get networkpolicies", "get pods/exec", "create pods/exec"}
    settings = tomllib.loads(by_kind["ConfigMap"]["data"]["config.toml"])
    assert settings["sandbox"]["provider"] == "kubernetes"
    engine = by_kind["Deployment"]["spec"]["template"]["spec"]
    assert engine["serviceAccountName"] == by_kind["ServiceAccount"]["metadata"]["name"]
    assert engine["securityContext"]["runAsNonRoot"] is True
    (container,) = engine["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    data = str(Path(variables["AGENT_MAGICS_DATA_DIR"]).parent)
    assert {data, variables["HOME"], "/tmp"} <= mounted


async def test_the_engine_of_the_manifests(cluster: FakeCluster, tmp_path: Path) -> None:
    """Its command, configuration and environment, against this cluster: a session in a pod."""
    documents = list(yaml.safe_load_all(cluster_module.manifest().read_text("utf-8")))
    by_kind: dict[str, Any] = {document["kind"]: document for document in documents}
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["command"]
    assert program == "agent-magics"
    for volume in ("config", "data", "tmp"):
        (tmp_path / volume).mkdir()
        (tmp_path / volume).chmod(0o2777)  # as volumes are made for a group
    (tmp_path / "config/config.toml").write_text(by_kind["ConfigMap"]["data"]["config.toml"])
    environ = {entry["name"]: f"{tmp_path}{entry['value']}" for entry in container["env"]}
    environ |= by_kind["Secret"]["stringData"]
    environ |= {"KUBECONFIG": str(cluster.kubeconfig()), "PATH": os.environ["PATH"]}
    at = arguments.index("--port") + 1
    assert int(arguments[at]) == container["ports"][0]["containerPort"]
    arguments[at] = "0"
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_magics.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(PATIENCE):
            assert engine.stdout is not None
            port = urlsplit(json.loads(await engine.stdout.readline())["url"]).port
            token = environ["AGENT_MAGICS_TOKEN"]
            async with AsyncClient(f"http://127.0.0.1:{port}", token=token) as client:
                session = await client.create_session()
                assert (await session.shell("echo here; pwd")).stdout == "here\n/workspace\n"
                assert len(cluster.pods) == len(cluster.claims) == 1
                await session.end()
            assert cluster.pods == cluster.claims == {}
    finally:
        with suppress(ProcessLookupError):
            engine.terminate()
        await engine.wait()
