"""The `artifact` tool."""

from __future__ import annotations

import errno

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed

from .._artifacts import LARGEST_ARTIFACT, ArtifactError, artifact_key, too_large
from ._context import TurnDeps, checked, file_errors, meant, tool_context, tool_path
from ._output import cap_text

__all__ = ["artifact"]

_LONGEST_DESCRIPTION = 500


@checked
async def artifact(
    ctx: RunContext[TurnDeps], path: str, key: str | None = None, description: str | None = None
) -> str:
    """Publish a file as a named result of the session, for the user and their programs.

    Use it for what the user asked for in the end: the report, the cleaned table, the chart, the
    model. The file is copied: later changes don't show until you publish it again under the same
    key.

    Args:
        path: The file; absolute or relative to /workspace.
        key: The name of the result, such as `report.md`; default: the file's name.
        description: What it is, in one sentence, for the user.
    """
    call, absolute = tool_context(ctx), tool_path(path)
    try:
        if key is not None:
            artifact_key(key)
    except ArtifactError as error:
        raise ModelRetry(str(error)) from error
    with file_errors(absolute):
        try:
            real = await meant(call, absolute)
            data = await call.sandbox.read_file(real, max_bytes=LARGEST_ARTIFACT)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise ToolFailed(too_large(absolute)) from error
            raise
    text = cap_text(" ".join((description or "").split()), _LONGEST_DESCRIPTION)
    try:
        info = await call.publish(absolute, data, key, text)
    except ArtifactError as error:
        raise ToolFailed(str(error)) from error
    call.metadata(artifact=info)
    return f"Published {absolute} as the artifact {info['key']}: {info['size']} bytes."
