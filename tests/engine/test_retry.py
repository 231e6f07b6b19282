"""Which failures are worth another try, and how long the engine waits before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError

from agent_magics.engine._overflow import is_overflow
from agent_magics.engine._retry import RetryPolicy

POLICY = RetryPolicy(tries=4, connection_tries=2, first_wait=1.0, longest_wait=60.0)


def refused(status: int, **headers: str) -> ModelHTTPError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return ModelHTTPError(status, "main", headers=names)


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_waits_double_and_end(status: int) -> None:
    waits = [POLICY.wait(refused(status), failures) for failures in range(1, 6)]
    assert waits == [1.0, 2.0, 4.0, None, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_final(status: int) -> None:
    assert POLICY.wait(refused(status, retry_after="1"), 1) is None


def test_the_provider_says_how_long_in_seconds() -> None:
    assert POLICY.wait(refused(429, retry_after="7"), 3) == 7.0
    assert POLICY.wait(refused(503, retry_after="0"), 1) == 0.0
    assert POLICY.wait(refused(429, retry_after_ms="250"), 1) == 0.25
    assert POLICY.wait(refused(429, retry_after="61"), 1) is None


def test_the_provider_says_how_long_by_a_date() -> None:
    wait = POLICY.wait(refused(429, retry_after=in_seconds(50)), 1)
    assert wait is not None and 1 < wait <= 50
    assert POLICY.wait(refused(503, retry_after=in_seconds(-50)), 1) == 0.0
    assert POLICY.wait(refused(503, retry_after=in_seconds(9999)), 1) is None


def test_a_wish_that_makes_no_sense_is_ignored() -> None:
    for wish in ("soon", "-5", "", "Thu, 99 Foo 2026"):
        assert POLICY.wait(refused(429, retry_after=wish), 2) == 2.0


def test_a_server_that_is_out_of_reach_gets_fewer_tries() -> None:
    error = ModelConnectionError("main", "refused")
    assert [POLICY.wait(error, failures) for failures in (1, 2)] == [1.0, None]
    cut = ModelConnectionError("main", "cut", in_stream=True)
    assert POLICY.wait(cut, 1) is None  # what was said can't be unsaid
    assert POLICY.wait(ZeroDivisionError(), 1) is None


def test_too_large_is_told_from_other_refusals() -> None:
    assert is_overflow(ModelHTTPError(400, "main", {"error": {"message": "prompt is too long"}}))
    assert is_overflow(ModelHTTPError(413, "main", "maximum context length is 8192 tokens"))
    assert not is_overflow(ModelHTTPError(400, "main", "no such parameter"))
    assert not is_overflow(ModelHTTPError(500, "main", "prompt is too long"))
