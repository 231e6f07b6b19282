"""
The session's own Linux container: commands and files of the agent, and nothing of the host.

    sandbox = open_sandbox(Path("/var/lib/agent/session-1"))
    await sandbox.start()
    result = await sandbox.run("python -m pytest", timeout=60)
    await sandbox.destroy()
"""

from ._errors import SandboxError, SandboxGone, SandboxUnavailable
from ._options import KubernetesOptions, OciOptions, ProviderOptions
from ._probe import CONTAINERS, probe
from ._providers import PROVIDERS
from ._sandbox import Sandbox, open_sandbox
from ._types import ExecResult, FileStat, Limits, ProviderReport, PythonEnv
from ._workspace import FetchedFile, TreeRow, WorkspaceTree

__all__ = [
    "CONTAINERS",
    "PROVIDERS",
    "ExecResult",
    "FetchedFile",
    "FileStat",
    "KubernetesOptions",
    "Limits",
    "OciOptions",
    "ProviderOptions",
    "ProviderReport",
    "PythonEnv",
    "Sandbox",
    "SandboxError",
    "SandboxGone",
    "SandboxUnavailable",
    "TreeRow",
    "WorkspaceTree",
    "open_sandbox",
    "probe",
]
