"""The todo list: `todowrite` and `todoread`."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_ai import ModelRetry, RunContext

from agent_magics.wire import TodoJSON

from ._context import TurnDeps, tool_context

__all__ = ["TodoItem", "todoread", "todowrite"]

MAX_TODOS = 50
MAX_CONTENT = 500


class TodoItem(BaseModel):
    """One todo."""

    content: str = Field(description="What to do, in a few words.", min_length=1)
    status: Literal["pending", "in_progress", "completed", "cancelled"] = Field(
        default="pending", description="Where it stands."
    )
    priority: Literal["high", "medium", "low"] = Field(
        default="medium", description="How important it is."
    )


async def todowrite(ctx: RunContext[TurnDeps], todos: list[TodoItem]) -> str:
    """Replace the session's todo list, which the user watches.

    Use it for work of three or more steps: write the list before you start, keep exactly one todo
    in_progress, mark each completed as soon as it is done, cancel what turned out unnecessary.

    Args:
        todos: The complete new list, in the order of work.
    """
    if len(todos) > MAX_TODOS:
        raise ModelRetry(f"At most {MAX_TODOS} todos, please.")
    items = [
        TodoJSON(
            content=todo.content.strip()[:MAX_CONTENT] or "-",
            status=todo.status,
            priority=todo.priority,
        )
        for todo in todos
    ]
    call = tool_context(ctx)
    call.set_todos(items)
    call.metadata(todos=items)
    return json.dumps(items, ensure_ascii=False)


async def todoread(ctx: RunContext[TurnDeps]) -> str:
    """Read the session's todo list."""
    return json.dumps(tool_context(ctx).get_todos(), ensure_ascii=False)
