"""
The session's own Linux container: commands and files of the agent, and nothing of the host.

    sandbox = open_sandbox(Path("/var/lib/agent/session-1"))
    await sandbox.start()
    result = await sandbox.run("python -m pytest", timeout=60)
    await sandbox.destroy()
"""

from ._addresses import Openings, is_public
from ._agent.landlock import usable_version as landlock_version
from ._errors import PathIsLink, SandboxError, SandboxGone, SandboxUnavailable
from ._hosts import HOST_GROUPS, HostError, checked_pattern, host_matches
from ._leftovers import end_leftovers
from ._network import Network
from ._options import KubernetesOptions, OciOptions, ProviderOptions
from ._pieces import OpenFile
from ._probe import CONTAINERS, probe
from ._providers import PROVIDERS
from ._proxy import Traffic
from ._running import Interrupt
from ._sandbox import Sandbox, open_sandbox
from ._trees import remove_tree
from ._types import ExecResult, FileStat, Limits, ProviderReport, PythonEnv
from ._workspace import FetchedFile, TreeRow, WorkspaceTree

__all__ = [
    "CONTAINERS",
    "HOST_GROUPS",
    "PROVIDERS",
    "ExecResult",
    "FetchedFile",
    "FileStat",
    "HostError",
    "Interrupt",
    "KubernetesOptions",
    "Limits",
    "Network",
    "OciOptions",
    "OpenFile",
    "Openings",
    "PathIsLink",
    "ProviderOptions",
    "ProviderReport",
    "PythonEnv",
    "Sandbox",
    "SandboxError",
    "SandboxGone",
    "SandboxUnavailable",
    "Traffic",
    "TreeRow",
    "WorkspaceTree",
    "checked_pattern",
    "end_leftovers",
    "host_matches",
    "is_public",
    "landlock_version",
    "open_sandbox",
    "probe",
    "remove_tree",
]
