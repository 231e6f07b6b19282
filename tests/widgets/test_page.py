"""No page's typesetter finds anything in what is written into pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agent_magics.notebook._data._made import MadeFile, _bundle
from agent_magics.notebook._manage._export import _html
from agent_magics.widgets import Facts, Listing, Questions, TurnRecord, page_text, render_markdown
from agent_magics.wire import (
    AssistantInfo,
    Message,
    SessionInfo,
    TextPart,
)
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    text,
    thought,
    tool_done,
    tool_start,
)

PACKAGE = Path(__file__).resolve().parents[2] / "agent_magics"
