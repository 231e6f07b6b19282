"""A table of a gigabyte goes along with a prompt: how long, and how much memory on top of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.benchmarks.bench import bench
from tests.benchmarks.figures import Figure

SIZE = int(os.environ.get("BENCH_SEND_BYTES", 1 << 30))
"""Bytes of the DataFrame; less for a try."""

_MAKE = """
import resource, tempfile, time
from pathlib import Path
import numpy, pandas

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def plain():
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        big.to_parquet(Path(folder) / "big.parquet")
        return time.perf_counter() - start

columns = numpy.empty((8, {rows}))  # filled in place, so that making it takes no second copy
numpy.random.default_rng(0).random(out=columns)
big = pandas.DataFrame(columns.T, columns=list("abcdefgh"), copy=False)
small = big.head(1000)
"""


_REFUSED = """
try:
    get_ipython().run_line_magic("agent", "--with big sent")
except Exception as error:
    print(error)
"""


def measure() -> Iterator[Figure]:
    """Of random numbers, which do not get smaller; the baseline only writes the same file."""
    scenarios = {"sent": {"match": "sent", "turns": [{"do": [{"text": "Thanks."}]}]}}
    with bench(scenarios) as place:
        front = place.front
        front.run(_MAKE.format(rows=SIZE // 64), timeout=300)
        front.run("%agent --with small sent", timeout=300)
        before = float(front.run("print(peak())"))
        start, messages = front.timed("%agent --large --with big sent", timeout=600)
        seconds = next(m["at"] for m in messages if m["msg_type"] == "execute_reply") - start
        extra = float(front.run("print(peak())")) - before
        refused, messages = front.timed(_REFUSED)
        told = next(m["at"] for m in messages if m["msg_type"] == "stream") - refused
        plain = float(front.run("print(plain())", timeout=300))
    gigabytes = SIZE / (1 << 30)
    name = f"--with of a DataFrame of {gigabytes:.2g} GB"
    yield Figure(
        f"{name}, until the turn is over",
        seconds,
        "s",
        limit=60 * gigabytes + 5,
        baseline=plain,
        against="to_parquet",
    )
    yield Figure("... memory of the kernel on top of it, peak", extra / 2**20, "MB", limit=300)
    yield Figure("... until it is refused without --large", told * 1000, "ms", limit=500)
