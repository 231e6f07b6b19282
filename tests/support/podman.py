"""
Real podman for tests, with a storage of its own: `podman` and `docker` programs that use it.

Where podman does not run plainly (this machine mounts cgroups in a way that its runtime refuses,
as machines of CI tend to), root gives it a mount namespace in which they are as it wants them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.oci_image import write_image
from tests.support.waiting import wait_until

IMAGE = "localhost/agent-magics-test:latest"
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/root"\nrunroot = "{0}/run"\n'
PLAIN = '[engine]\nevents_logger = "file"\n'
NO_CGROUPS = (
    '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]'
    '\n[engine]\nevents_logger = "file"\ncgroup_manager = "cgroupfs"\n'
)
_WITHOUT = "this machine mounts cgroups in a way that no runtime of podman's takes"
HOLD = (
    "umount /sys/fs/cgroup/unified 2>/dev/null; mount --make-rshared /; "
    "touch {0}/held; exec sleep 86400"
)


class NotHere(Exception):
    """Real podman can't be had; the message says why."""


@dataclass
class Podman:
    """`bin` has the programs podman and, where there is a docker CLI, docker."""

    bin: Path
    docker: str
    """Why there is no docker; empty: there is."""
    cgroups: str = ""
    """Why its containers have no cgroups; empty: they have."""

    def __call__(self, *arguments: str) -> str:
        """Run podman; its output. Raises NotHere when it fails."""
        done = subprocess.run(
            [self.bin / "podman", *arguments], capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise NotHere(done.stderr.strip()[-500:])
        return done.stdout

    def containers(self) -> list[str]:
        return self("ps", "--all", "--format", "{{.Names}}").split()


@contextmanager
def real_podman() -> Iterator[Podman]:
    """Raises NotHere."""
    if shutil.which("podman") is None:
        raise NotHere("podman is not installed: apt-get install podman crun")
    folder = Path(tempfile.mkdtemp(prefix="agent-magics-podman-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.callback(subprocess.run, ["umount", folder / "root/overlay"], capture_output=True)
        write_image(folder / "image.tar")
        podman = _first_that_runs(folder, stack)
        (folder / "image.tar").unlink()
        podman.docker = _serve_docker(podman, folder, stack)
        stack.callback(subprocess.run, [podman.bin / "podman", "rm", "--all", "--force"])
        yield podman


def _first_that_runs(folder: Path, stack: ExitStack) -> Podman:
    reasons = []
    hybrid = Path("/sys/fs/cgroup/unified").exists()  # no runtime of podman's takes that
    for way in (_with_own_mounts,) if hybrid else (_plain, _with_own_mounts):
        inner = ExitStack()
        try:
            podman = Podman(way(folder, inner), "not tried", "" if way is _plain else _WITHOUT)
            podman("import", "--quiet", str(folder / "image.tar"), IMAGE)
            podman("run", "--rm", "--network", "none", IMAGE, "python3", "-c", "import json")
        except NotHere as error:
            reasons.append(str(error))
            inner.close()
            continue
        stack.enter_context(inner)
        return podman
    raise NotHere("; then ".join(reasons))


def _plain(folder: Path, stack: ExitStack) -> Path:
    return _programs(folder, PLAIN, [])


def _with_own_mounts(folder: Path, stack: ExitStack) -> Path:
    if os.geteuid() != 0:
        raise NotHere("only root can give it mounts of its own")
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD.format(folder)]
    )
    stack.callback(holder.wait)
    stack.callback(holder.kill)
    wait_until(lambda: (folder / "held").exists() or holder.poll() is not None)
    if holder.poll() is not None:
        raise NotHere("a mount namespace can't be made")
    return _programs(folder, NO_CGROUPS, ["nsenter", "--target", str(holder.pid), "--mount"])


def _programs(folder: Path, configuration: str, before: list[str]) -> Path:
    """Write the program podman, that keeps all it makes below `folder`."""
    (folder / "storage.conf").write_text(STORAGE.format(folder))
    (folder / "containers.conf").write_text(configuration)
    command = shlex.join([*before, str(shutil.which("podman"))])
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/podman").write_text(
        f"#!/bin/sh\nexport CONTAINERS_CONF={folder}/containers.conf\n"
        f'export CONTAINERS_STORAGE_CONF={folder}/storage.conf\nexec {command} "$@"\n'
    )
    (folder / "bin/podman").chmod(0o755)
    return folder / "bin"


def _serve_docker(podman: Podman, folder: Path, stack: ExitStack) -> str:
    """Let a docker CLI find podman's service in the place of Docker's daemon."""
    docker = shutil.which("docker")
    if docker is None:
        return "there is no docker CLI on this machine"
    socket = folder / "docker.sock"
    service = subprocess.Popen(
        [podman.bin / "podman", "system", "service", "--time", "0", f"unix://{socket}"],
        stderr=subprocess.DEVNULL,
    )
    stack.callback(service.wait)
    stack.callback(service.kill)
    wait_until(lambda: socket.exists() or service.poll() is not None)
    (folder / "bin/docker").write_text(
        f"#!/bin/sh\nexport DOCKER_CONFIG={folder} DOCKER_HOST=unix://{socket}\n"
        f'exec {docker} "$@"\n'
    )
    (folder / "bin/docker").chmod(0o755)
    if subprocess.run([folder / "bin/docker", "version"], capture_output=True).returncode != 0:
        return "podman's service does not answer the docker CLI"
    return ""
