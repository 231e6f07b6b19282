"""
Measure the figures that the README names: `make bench` or `python -m tests.benchmarks [NAME ...]`.

Prints one table; each figure stands beside its limit and a baseline measured in the same run.
The exit code is 1 when a figure misses its limit.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator

from tests.benchmarks import (
    browser,
    containers,
    history,
    imports,
    network,
    overhead,
    sending,
    streams,
    survival,
    turns,
)
from tests.benchmarks.figures import Figure, table

MEASUREMENTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "import": imports.measure,
    "pixel": turns.first_pixel,
    "delta": turns.delta_to_widget,
    "click": turns.click_to_python,
    "bytes": streams.bytes_to_the_browser,
    "rate": streams.deltas_per_second,
    "reattach": survival.time_to_reattach,
    "browser": browser.measure,
    "overhead": overhead.measure,
    "container": containers.measure,
    "snapshot": history.snapshots,
    "summary": history.summaries,
    "network": network.measure,
    "send": sending.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    names = parser.parse_args().names or list(MEASUREMENTS)
    if unknown := set(names) - set(MEASUREMENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"python -m tests.benchmarks {' '.join(names)}")
    print(f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}", flush=True)
    figures = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures.extend(MEASUREMENTS[name]())
    print(table(figures))
    return 0 if all(figure.good for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
