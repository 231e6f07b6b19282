"""`python -m tests.attacks.payloads [-v]`: how many payloads are inert, per kind and layer."""

from __future__ import annotations

import sys

from . import PAYLOADS, by_kind
from .layers import LAYERS


def main(arguments: list[str]) -> int:
    """Print the table; the exit code says whether all of them held."""
    failed: dict[str, list[str]] = {}
    rows = []
    for kind, payloads in by_kind().items():
        counts = []
        for layer, check in LAYERS.items():
            bad = {p.id: found for p in payloads if (found := check(p.at()))}
            for id, problems in bad.items():
                failed.setdefault(id, []).append(f"{layer}: {problems[:3]}")
            counts.append(f"{len(payloads) - len(bad)}/{len(payloads)}")
        rows.append([kind, *counts])
    for row in [["kind", *LAYERS], *rows]:
        print("  ".join(cell.rjust(13) for cell in row))
    print(f"{len(PAYLOADS) - len(failed)} of {len(PAYLOADS)} payloads are inert in all layers")
    if "-v" in arguments:
        for id, lines in failed.items():
            print(id, *lines, sep="\n    ")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
