"""
The agent server: sessions, turns, tools, permissions and the numbered event log, over HTTP.

It runs in its own process (`python -m agent_magics.engine`) and is never imported by the
notebook's kernel. This module imports nothing, so that the process can bind its socket before
the slow imports.
"""

__all__: list[str] = []
