"""
The built-in demo model `demo/guide`: a script that talks and works like an agent, and says so.

It lets people try everything around the model (streaming, tools in the container, permissions,
todos, images) without a key. A walk-through is a generator that yields steps and receives the
results of their tool calls. Nothing is remembered between requests: the walk is replayed from
the message history each time, so a session survives a restart.
"""

from __future__ import annotations

from ._model import GuideModel

__all__ = ["GuideModel"]
