"""What a turn costs the browser: long tasks, lag, and the time to draw many tool calls."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Page, sync_playwright

from agent_magics.widgets import TurnRecord
from agent_magics.widgets._ops import OpWriter
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.streams import PARAGRAPH
from tests.support.agent_events import ended, text, tool_done, tool_runs, tool_start
from tests.support.jupyter import CHROMIUM_ARGS
from tests.support.turn_script import Script

REPLY = 1_000_000  # characters
RATE = 2000  # deltas a second
DELTA = 50  # characters
PACES = ((50, 0.04), (150, 0.08), (1_000_000, 0.12))
"""Seconds between two updates, as the widget has them."""
CALLS = 100
OUTPUT = "".join(f"line {n} of the output of a command\n" for n in range(60))
LONG_TASK = 50.0  # ms: what browsers call long

MEASURE = """async ({ messages, plain }) => {
  const tasks = [], lags = [];
  const observer = new PerformanceObserver(list =>
    list.getEntries().forEach(entry => tasks.push(entry.duration)));
  observer.observe({ type: 'longtask' });
  const pre = document.createElement('pre');
  document.body.append(pre);
  let due = performance.now() + 10;
  const timer = setInterval(() => {
    lags.push(Math.max(0, performance.now() - due));
    due = performance.now() + 10;
  }, 10);
  const start = performance.now();
  for (const { at, message, text } of messages) {
    const left = at - (performance.now() - start);
    if (left > 0) await new Promise(go => setTimeout(go, left));
    plain ? pre.append(text) : window.receive(message);
  }
  await new Promise(go => requestAnimationFrame(() => setTimeout(go, 100)));
  clearInterval(timer);
  observer.disconnect();
  const shown = document.querySelector(plain ? 'body > pre' : '.agent-text').textContent.length;
  return { tasks, lags, shown };
}"""
DRAW = """({ messages, texts }) => {
  const start = performance.now();
  const pre = document.createElement('pre');
  if (texts) {
    document.body.append(pre);
    texts.forEach(text => { pre.append(text); pre.getBoundingClientRect(); });
  } else {
    messages.forEach(message => {
      window.receive(message);
      document.querySelector('.agent-turn').getBoundingClientRect();
    });
  }
  return performance.now() - start;
}"""


def chromium() -> str | None:
    """The browser's program, if there is one."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def measure() -> Iterator[Figure]:
    """Nothing is measured where there is no Chromium."""
    program = chromium()
    if program is None:
        print("no Chromium: the browser's figures are left out", file=sys.stderr)
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_ARGS))
        try:
            yield from _long_reply(browser.new_page)
            yield from _many_calls(browser.new_page)
        finally:
            browser.close()


def _long_reply(new_page: Any) -> Iterator[Figure]:
    """A reply of 1 MB in 2000 deltas a second."""
    messages = _stream((PARAGRAPH * (REPLY // len(PARAGRAPH) + 1))[:REPLY])
    found = _on(new_page(), MEASURE, {"messages": messages, "plain": False})
    plain = _on(new_page(), MEASURE, {"messages": messages, "plain": True})
    assert found["shown"] > 0.8 * REPLY and plain["shown"] == REPLY
    against = "plain text, appended"
    yield Figure(
        "1 MB at 2000 deltas/s: lag of the page, p95",
        percentile(found["lags"], 0.95),
        "ms",
        limit=50,
        baseline=percentile(plain["lags"], 0.95),
        against=against,
    )
    yield Figure(
        "1 MB at 2000 deltas/s: longest task",
        max(found["tasks"], default=0.0),
        "ms",
        limit=300,
        baseline=max(plain["tasks"], default=0.0),
        against=against,
    )
    yield Figure(
        f"1 MB at 2000 deltas/s: tasks over {LONG_TASK:.0f} ms",
        len(found["tasks"]),
        "tasks",
        baseline=len(plain["tasks"]),
        against=against,
    )


def _stream(reply: str) -> list[dict[str, Any]]:
    """What the widget sends for the reply, and when, in milliseconds."""
    record, messages = TurnRecord(), []
    writer = OpWriter(record)
    now = taken = 0.0
    while taken < len(reply):
        now += next(pace for limit, pace in PACES if len(messages) < limit)
        come = min(len(reply), int(now * RATE) * DELTA)
        fresh = reply[int(taken) : come]
        for begin in range(0, len(fresh), DELTA):
            record.handle(text(fresh[begin : begin + DELTA]))
        taken = come
        if come == len(reply):
            record.handle(ended())
        message = {"n": len(messages), "ops": writer.changes()}
        messages.append({"at": now * 1000, "message": message, "text": fresh})
    return messages


def _many_calls(new_page: Any) -> Iterator[Figure]:
    """A turn with 100 tool calls, laid out after each update."""
    record, messages, texts = TurnRecord(), [], []
    writer = OpWriter(record)
    for number in range(CALLS):
        call, command = str(number), {"command": f"make part-{number}"}
        for event in (
            tool_start(call=call),
            tool_runs(call=call, input=command),
            tool_done(call=call, input=command, output=OUTPUT),
        ):
            record.handle(event)
            messages.append({"n": len(messages), "ops": writer.changes()})
        texts.append(f"$ {command['command']}\n{OUTPUT}")
    drawn = _on(new_page(), DRAW, {"messages": messages, "texts": None})
    plain = _on(new_page(), DRAW, {"messages": None, "texts": texts})
    yield Figure(
        "100 tool calls: to draw and lay out, each",
        drawn / CALLS,
        "ms",
        limit=30,
        baseline=plain / CALLS,
        against="plain text, appended",
    )
    sent = sum(len(json.dumps(message)) for message in messages)
    yield Figure("100 tool calls: sent over their text", sent / sum(map(len, texts)), "x", limit=3)


def _on(page: Page, program: str, argument: Any) -> Any:
    try:
        Script(page)
        return page.evaluate(program, argument)
    finally:
        page.close()
