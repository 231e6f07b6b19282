"""`task`: a piece of work for a sub-agent."""

from __future__ import annotations

from pydantic_ai import RunContext

from ._context import TurnDeps

__all__ = ["task"]


async def task(ctx: RunContext[TurnDeps], description: str, prompt: str, subagent_type: str) -> str:
    """Give a self-contained piece of work to a sub-agent and get its report.

    The sub-agent works in the same container and on the same files, but sees nothing of this
    conversation: its prompt must hold all it needs, and say what its report shall contain. Use it
    for searches through many files and for parts that need no coordination; start several in one
    step when they don't depend on each other. Not for what a call or two of your own would do. The
    user sees that it works but not its report: tell them what matters.

    Args:
        description: What it is about, in 3 to 5 words, for the user.
        prompt: The whole task.
        subagent_type: The name of the sub-agent.
    """
    return await ctx.deps.delegate(ctx.tool_call_id or "", description, prompt, subagent_type)
