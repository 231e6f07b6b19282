"""A turn in which everything occurs that a transcript can show."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from agent_magics.wire import AgentEvent, Tokens, TurnStarted
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    step,
    text,
    thought,
    tool_done,
    tool_failed,
    tool_prints,
    tool_runs,
    tool_start,
)

REPLY = """## Body mass per species

Gentoo penguins are the *heaviest*. With mean $\\bar m = \\frac{1}{n}\\sum_{i=1}^n m_i$ and

$$ s^2 = \\frac{1}{n-1} \\sum_{i=1}^{n} (m_i - \\bar m)^2 $$

the groups differ clearly; printing them cost $5 and then $10.

| id | species | n | mean (g) | sd | 95 % interval | note |
| --- | --- | ---: | ---: | ---: | :---: | --- |
| ses_01JQX4 | Adelie | 151 | 3,700.66 | 458.57 | 3,627-3,774 | the smallest, on all the islands |
| ses_01JQX5 | Chinstrap | 68 | 3,733.09 | 384.34 | 3,640-3,826 | Dream only |
| ses_01JQX6 | Gentoo | 123 | 5,076.02 | 504.12 | 4,986-5,166 | see [here](https://example.org/) |

1. Read the file with `pd.read_csv`
2. Group it:
   - by species
   - by sex, too

```python
import pandas as pd

def mean_mass(path: str) -> pd.Series:
    \"\"\"Mean body mass per species.\"\"\"
    frame = pd.read_csv(path).dropna()  # two rows have no values
    return frame.groupby("species")["body_mass_g"].mean().round(2)
```

> A quotation with `code`, **strong** and ~~struck~~ text.
"""
DIFF = """--- analysis.py
+++ analysis.py
@@ -1,7 +1,8 @@
 import pandas as pd

-frame = pd.read_csv("penguins.csv")
+frame = pd.read_csv("penguins.csv").dropna()
 means = frame.groupby("species").mean(numeric_only=True)

 print(means)
+means.to_csv("means.csv")
 # done
"""
EDIT = {
    "filePath": "/workspace/analysis.py",
    "oldString": 'frame = pd.read_csv("penguins.csv")',
    "newString": 'frame = pd.read_csv("penguins.csv").dropna()',
}
WRITE = {
    "filePath": "/workspace/plot.py",
    "content": "import matplotlib\n\nmatplotlib.use('agg')\nprint('ready')\n",
}
PROGRAM = "cd /workspace && python3 analysis.py --group species \\\n  | tee result.txt"


def turn() -> Iterator[AgentEvent]:
    """The events up to three open requests."""
    yield TurnStarted("msg_1", "anthropic/claude-sonnet")
    yield thought("The file has *eight* columns.\nI group by species and ignore empty rows.")
    yield text("I look at the data, then compute the means.\n\n", "prt_first")
    yield plan(
        ("Look at penguins.csv", "completed"),
        ("Compute the means", "in_progress"),
        ("Draw a chart", "pending"),
        ("Fit a model", "cancelled"),
    )
    times = {"time_start": 1_000, "time_end": 1_420}
    yield from _call(
        "read", "1", {"filePath": "/workspace/penguins.csv"}, "species,island\n", times
    )
    yield from _call("edit", "2", EDIT, "Edited.", {**times, "metadata": {"diff": DIFF}})
    yield from _call("write", "3", WRITE, "Wrote /workspace/plot.py: 4 lines.", times)
    lines = "".join(f"row {n:05d}  value {n * n}\n" for n in range(400))
    yield from _call("bash", "4", {"command": PROGRAM, "description": "Compute"}, lines, times)
    yield from _call(
        "bash", "5", {"command": "false"}, "no such file\n", {**times, "metadata": {"exit": 2}}
    )
    yield tool_start("webfetch", "6")
    yield tool_failed(
        "webfetch",
        "6",
        input={"url": "https://example.org"},
        error="refused: no network. Allow it with [network].",
    )
    yield step(Tokens(12_400, 830), 0.0213)
    yield text(REPLY, "prt_reply")
    yield tool_start("bash", "7")
    yield tool_runs("bash", "7", input={"command": "pip download numpy"})
    yield tool_prints(
        "downloading numpy\n 40 %\r 80 %\r", "bash", "7", input={"command": "pip download numpy"}
    )
    yield asked(
        "per_0", always=("git *",), patterns=("git push",), metadata={"command": "git push"}
    )
    yield replied("reject", "per_0")
    yield asked(
        "per_1",
        always=("python3 *",),
        patterns=(PROGRAM,),
        metadata={"command": PROGRAM, "description": "Compute the means"},
    )
    yield asked("per_2", "edit", always=("*",), patterns=("analysis.py",), metadata=EDIT)
    yield asked(
        "per_3",
        "webfetch",
        always=("docs.python.org",),
        patterns=("docs.python.org",),
        metadata={"url": "https://docs.python.org/3/\u202egnp.exe"},
    )


def end() -> Iterator[AgentEvent]:
    """All requests answered, and the end."""
    yield replied("once", "per_1")
    yield replied("always", "per_2")
    yield replied("reject", "per_3")
    yield tool_done(
        "bash",
        "7",
        input={"command": "pip download numpy"},
        output="done\n",
        time_start=0,
        time_end=73_000,
    )
    yield ended(tokens=Tokens(31_000, 1_730), cost=0.0634)


def chart(width: int = 240, height: int = 90) -> bytes:
    """A PNG."""
    rows = b"".join(
        b"\0"
        + bytes(
            v
            for x in range(width)
            for v in ((70, 130, 180) if y > height - x * height // width else (240, 240, 240))
        )
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pieces = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in pieces
    )


def _call(
    tool: str, call: str, arguments: dict[str, Any], output: str, state: dict[str, Any]
) -> Iterator[AgentEvent]:
    yield tool_start(tool, call)
    yield tool_runs(tool, call, input=arguments)
    yield tool_done(tool, call, input=arguments, output=output, **state)
