"""
The session's own Linux container: commands and files of the agent, and nothing of the host.

    sandbox = open_sandbox(Path("/var/lib/agent/session-1"))
    await sandbox.start()
    result = await sandbox.run("python -m pytest", timeout=60)
    await sandbox.destroy()
"""

from ._errors import SandboxError, SandboxGone, SandboxUnavailable
from ._leftovers import end_leftovers
from ._pieces import OpenFile
from ._probe import probe
from ._sandbox import Sandbox, open_sandbox
from ._trees import remove_tree
from ._types import ExecResult, FileStat, Limits, ProviderReport, PythonEnv
from ._workspace import FetchedFile, TreeRow, WorkspaceTree

__all__ = [
    "ExecResult",
    "FetchedFile",
    "FileStat",
    "Limits",
    "OpenFile",
    "ProviderReport",
    "PythonEnv",
    "Sandbox",
    "SandboxError",
    "SandboxGone",
    "SandboxUnavailable",
    "TreeRow",
    "WorkspaceTree",
    "end_leftovers",
    "open_sandbox",
    "probe",
    "remove_tree",
]
