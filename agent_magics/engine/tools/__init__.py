"""
The agent's tools. They work in the session's container and nowhere else; only webfetch reaches
out, from the engine and to public addresses alone.

`build_tools` gives them in the form the agent loop takes; parameters are named as opencode's.
Errors that the model can mend by other arguments are `ModelRetry`, all others `ToolFailed`: the
model sees them and goes on.
"""

from __future__ import annotations

from pydantic_ai import Tool

from .._web import WebFetcher
from ._artifact import artifact
from ._bash import bash
from ._batch import batch
from ._context import ToolContext, TurnDeps
from ._output import MAX_OUTPUT, cap_text
from ._prompt import INSTRUCTIONS
from ._read import read
from ._search import glob, grep
from ._skill import list_skills, skill
from ._task import task
from ._titles import tool_title
from ._todo import todoread, todowrite
from ._webfetch import WebTools
from ._write import edit, write

__all__ = [
    "INSTRUCTIONS",
    "MAX_OUTPUT",
    "ToolContext",
    "TurnDeps",
    "build_tools",
    "cap_text",
    "tool_title",
]

_RETRIES = 5


def build_tools(fetcher: WebFetcher | None = None) -> list[Tool[TurnDeps]]:
    """All tools. `fetcher` stands for the web, in tests."""
    web = WebTools(fetcher or WebFetcher())
    # A file tool that changes something runs alone and in its place: "write it, then run it" in
    # one step does what it says, and two edits of one file can't lose each other's work.
    return [
        Tool(bash, max_retries=_RETRIES),
        Tool(read, max_retries=_RETRIES),
        Tool(write, max_retries=_RETRIES, sequential=True),
        Tool(edit, max_retries=_RETRIES, sequential=True),
        Tool(grep, max_retries=_RETRIES),
        Tool(glob, max_retries=_RETRIES),
        Tool(todowrite, max_retries=_RETRIES),
        Tool(todoread, max_retries=_RETRIES),
        Tool(artifact, max_retries=_RETRIES, sequential=True),
        Tool(web.webfetch, max_retries=_RETRIES),
        Tool(batch, max_retries=_RETRIES, sequential=True),
        Tool(skill, max_retries=_RETRIES, prepare=list_skills),
        Tool(task, max_retries=_RETRIES),
    ]
