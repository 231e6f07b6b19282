"""The `bash` tool."""

from __future__ import annotations

from pydantic_ai import ModelRetry, RunContext

from .._paths import WORKSPACE
from ._context import TurnDeps, checked, tool_context, tool_path
from ._output import OutputTail, clean_terminal

__all__ = ["bash"]

MAX_TIMEOUT = 600_000
_CAPTURE = 4 << 20
"""Bytes of output that are streamed live at most; the model gets far less."""


_NO_WORKSPACE = (
    "[there is no container and so no /workspace for commands: use relative paths, or $HOME]"
)


@checked
async def bash(
    ctx: RunContext[TurnDeps],
    command: str,
    timeout: int | None = None,
    workdir: str | None = None,
    description: str | None = None,
) -> str:
    """Run a shell command in the session's container and return its output.

    Stdout and stderr come back together, in order; a line at the end says when the exit code is
    not 0. Each call is a new shell: `cd` and variables don't last, use `workdir`. There is no
    terminal and no stdin: pass flags like -y, never start an editor or a pager. At the timeout and
    when the user stops the turn all processes of the call are killed. To leave a server running,
    start it with & and its output in a file. Prefer the tools read, write, edit, grep and glob for
    files. The user may have to approve the command: keep it small and its purpose plain.

    Args:
        command: The command line, for bash.
        timeout: Milliseconds until the command is killed; default 120000, at most 600000, unless
            the machine's configuration says less.
        workdir: Directory to run in; default /workspace.
        description: What the command does, in 3 to 8 words, for the user.
    """
    if not command.strip() or "\0" in command:
        raise ModelRetry("`command` is empty or holds a NUL character.")
    if timeout is not None and timeout < 1:
        raise ModelRetry("`timeout` is in milliseconds and must be at least 1.")
    call = tool_context(ctx)
    limits = call.sandbox.limits
    longest = min(MAX_TIMEOUT, int(limits.longest_timeout * 1000))
    limit = min(timeout or int(limits.timeout * 1000), longest)
    collected = OutputTail()

    def on_output(stream: str, chunk: bytes) -> None:
        collected.add(chunk)
        call.output(stream, chunk)

    result = await call.sandbox.run(
        command,
        cwd=tool_path(workdir or WORKSPACE),
        timeout=limit / 1000,
        max_output=_CAPTURE,
        on_output=on_output,
    )
    truncated = collected.truncated or result.truncated
    call.metadata(
        exit=result.exit_code,
        timedOut=result.timed_out,
        truncated=truncated,
        description=description or "",
    )
    output = clean_terminal(collected.text()).rstrip("\n")
    ending = _ending(result.exit_code, result.timed_out, result.killed_by, limit)
    if result.exit_code and not call.sandbox.isolated and WORKSPACE in command:
        ending += f"\n{_NO_WORKSPACE}"
    return "\n".join(part for part in (output or "(no output)", ending) if part)


def _ending(exit_code: int, timed_out: bool, killed_by: str | None, limit: int) -> str:
    if timed_out:
        return f"[killed after the timeout of {limit} ms]"
    if killed_by:
        return f"[killed: the container's limit of {killed_by} was reached]"
    if exit_code:
        return f"[exit code {exit_code}]"
    return ""
