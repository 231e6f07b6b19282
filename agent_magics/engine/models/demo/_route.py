"""Which walk-through a prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage

from ._csv import analyse_csv
from ._csv_request import CsvRequest, parse_csv_request
from ._json_reply import wanted_schema, without_schema
from ._small import LABEL, fail, look_around, make_plan, other, write_and_run
from ._steps import Position, Step, Walk, position, replay
from ._summary import summary

__all__ = ["next_step"]

MAX_PROMPT = 8000
"""Characters of a prompt that are looked at."""
MAX_TRANSCRIPT = 1 << 20
_CODE = re.compile(
    r"\bhello\b.{0,40}\b(?:function|test|script|program|world|file|python)\b"
    r"|\b(?:write|make|create|run)\b.{0,40}\b(?:function|tests?|script|program)\b",
    re.IGNORECASE | re.DOTALL,
)
_PLAN = re.compile(r"\b(?:plan|plans|planning|to-?dos?)\b", re.IGNORECASE)
_FAIL = re.compile(
    r"\W*(?:please\b)?\W*(?:show|give)\b(?: me)? an? (?:error|failure)\W*", re.IGNORECASE
)
_LOOK = re.compile(
    r"\blook around\b|\bexplore\b"
    r"|\b(?:list|show|which|what)\b.{0,30}\b(?:files?|folder|directory)\b"
    r"|\bwhat(?:'s| is)\b.{0,20}\b(?:here|there|in)\b|\bwhere (?:am i|are you)\b|\bworkspace\b"
    r"|\bpython version\b|\bversion of python\b|\bwhich python\b|\bdisk\b|\benvironment\b",
    re.IGNORECASE | re.DOTALL,
)


def next_step(messages: Sequence[ModelMessage], tools: frozenset[str]) -> Step:
    """The reply to a conversation, by an agent with these tools; one without may summarize."""
    if not tools and (found := summary(position(messages, MAX_TRANSCRIPT).prompt)) is not None:
        return found
    where = position(messages, MAX_PROMPT)
    step = replay(_walk(where), where.rounds)
    missing = sorted({call.tool for call in step.calls} - tools)
    return _not_possible(missing) if missing else step


def _not_possible(missing: Sequence[str]) -> Step:
    names = ", ".join(missing)
    return Step(
        f"{LABEL}\n\nFor this I need tools that the agent you chose does not have: {names}. "
        "The agent `build` has them."
    )


def _walk(where: Position) -> Walk:
    prompt = where.prompt
    if _FAIL.fullmatch(prompt):
        return fail()
    if (request := _csv_request(where)) is not None:
        return analyse_csv(request, wanted_schema(prompt))
    if _CODE.search(prompt):
        return write_and_run()
    if _PLAN.search(prompt):
        return make_plan(prompt)
    if _LOOK.search(prompt):
        return look_around()
    return other()


def _csv_request(where: Position) -> CsvRequest | None:
    """A request for an analysis; the file may have been named in an earlier prompt."""
    request = parse_csv_request(without_schema(where.prompt))
    if request is None or request.file is not None:
        return request
    for prompt in reversed(where.earlier):
        earlier = parse_csv_request(prompt)
        if earlier is not None and earlier.file is not None:
            return request.of_file(earlier.file)
    return request
