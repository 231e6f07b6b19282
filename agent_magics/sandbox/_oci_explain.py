"""Why a container of podman or docker did not start, in plain words, from what they say."""

from __future__ import annotations

import getpass
import re

from ._errors import SandboxUnavailable

__all__ = ["explain", "not_installed"]

_INSTALL = {
    "podman": "Install it: apt install podman, or dnf install podman.",
    "docker": "Install Docker (docs.docker.com/engine/install), or use podman, which needs no "
    "daemon.",
}


def not_installed(name: str, note: str = "") -> SandboxUnavailable:
    """`note`: which programs of that name were passed over, and why."""
    return SandboxUnavailable(f"The program {name} was not found. {note}".strip(), _INSTALL[name])


_RULES: tuple[tuple[str, str, str], ...] = (
    (
        r"image not known|No such image|Unable to find image|manifest unknown",
        "The image {image} is not on this machine, and it is not fetched without being asked for.",
        "{name} pull {image}",
    ),
    (
        r"permission denied while trying to connect|dial unix .*: permission denied",
        "This user may not talk to the Docker daemon.",
        "sudo usermod -aG docker {user}, then log in anew (whoever is in that group is as good as "
        "root), or use podman, which needs no such right.",
    ),
    (
        r"Cannot connect to the Docker daemon|Is the docker daemon running|error during connect"
        r"|Cannot connect to Podman|unable to connect to Podman",
        "The daemon of {name} is not running, or is not where DOCKER_HOST says.",
        "Start it: sudo systemctl start docker, or Docker Desktop; podman on macOS: "
        "podman machine start.",
    ),
    (
        r"newuidmap|newgidmap",
        "podman can't map user numbers: newuidmap is missing or not allowed.",
        "sudo apt install uidmap (Fedora: shadow-utils), then: podman system migrate",
    ),
    (
        r"subuid|subgid|insufficient UIDs|cannot find UID/GID",
        "This user has no range of user numbers for containers (/etc/subuid, /etc/subgid).",
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, then: "
        "podman system migrate",
    ),
    (
        r"cannot clone|cannot re-exec|user namespaces are not enabled",
        "{name} needs user namespaces for ordinary users, and the kernel refuses them.",
        "As administrator: sudo sysctl -w user.max_user_namespaces=15000 (Ubuntu 24.04 and later: "
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)",
    ),
    (
        r"cgroups in hybrid mode",
        "This machine mounts the old and the new kind of cgroups at once, which {name}'s runtime "
        "does not take.",
        "Boot with systemd.unified_cgroup_hierarchy=1; or sudo umount /sys/fs/cgroup/unified and "
        'write cgroups = "disabled" below [containers] in /etc/containers/containers.conf',
    ),
    (
        r"cgroup",
        "{name} can't limit what the container uses: {line}",
        "Let this user's cgroups be managed (sudo systemctl edit user@.service: [Service] "
        "Delegate=yes), or write cgroup_limits = false below [sandbox.{name}].",
    ),
    (
        r"setrlimit",
        "{name} wants to raise limits that can't be raised here: {line}",
        'Write default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"] below [containers] in '
        "~/.config/containers/containers.conf (for all: /etc/containers/containers.conf).",
    ),
    (
        r"No module named '?(json|types)",
        "The python3 of {image} lacks its standard library.",
        "Take an image with all of it (Debian: python3, not python3-minimal): "
        '[sandbox.{name}] image = "..."',
    ),
    (
        r"executable file.*not found|python3.*[Nn]o such file|stat .*python3",
        "The image {image} has no python3.",
        'Take one that has python3 and bash: [sandbox.{name}] image = "..."',
    ),
    (
        r"mounts denied|not shared from the host|bind source path does not exist|statfs ",
        "{name} can't reach the session's directory: {line}",
        "Share it with the virtual machine that {name} runs in, or set AGENT_MAGICS_DATA_DIR to a "
        "directory that it sees; a daemon on another machine sees none of them.",
    ),
    (
        r"unknown flag|unknown option|unknown log driver",
        "This {name} is too old: {line}",
        "Install a newer one: podman 4 or Docker 20.10 at least.",
    ),
)


def explain(message: str, name: str, image: str, host_python: str | None) -> SandboxUnavailable:
    """
    What to tell people.

    Args:
        message: what `name` and the program in the container wrote to stderr.
        host_python: the notebook's Python, where that was to run in the image.
    """
    text = message.strip()
    said = {"name": name, "image": image, "user": _user(), "line": _last_line(text) + "."}
    for pattern, reason, next_step in _RULES:
        if host_python and "python" in reason:
            continue
        if re.search(pattern, text):
            return SandboxUnavailable(reason.format(**said), next_step.format(**said))
    if host_python:
        return SandboxUnavailable(
            f"The notebook's Python ({host_python}) does not run in {image}: {said['line']}",
            f'Remove python = "host" below [sandbox.{name}], or name an image of the same '
            "distribution as this system.",
        )
    return SandboxUnavailable(
        f"The container did not start: {said['line']}",
        f"Try it by hand: {name} run --rm {image} python3 -c 'print(1)'",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "$USER"


def _last_line(text: str) -> str:
    lines = text.splitlines()
    return lines[-1][:300].rstrip(".") if lines else "no message"
