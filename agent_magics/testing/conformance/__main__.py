"""`python -m agent_magics.testing.conformance [URL]`; the exit code is 1 when a check failed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

from agent_magics.client import AgentError, AsyncClient

from . import CHECKS, Outcome, Prompts, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m agent_magics.testing.conformance",
        description="Does a server do what SessionHandle promises?",
    )
    parser.add_argument("url", nargs="?", help="the server; without it the embedded engine")
    parser.add_argument("--token", help="the server's token")
    parser.add_argument("--model", help="provider/model-id that answers")
    parser.add_argument("--simple", default=Prompts().simple, help="a prompt answered with text")
    parser.add_argument("--asking", default=Prompts().asking, help="one that needs a permission")
    parser.add_argument("--failing", default=Prompts().failing, help="one whose turn fails")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK")
    parser.add_argument("--list", action="store_true", help="name the checks")
    options = parser.parse_args(arguments)
    if options.list:
        for each in CHECKS:
            print(f"{each.name}: {each.promise}")
        return 0
    try:
        outcomes = asyncio.run(_run(options))
    except (AgentError, ValueError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    counts = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    return 1 if counts["failed"] else 0


async def _run(options: argparse.Namespace) -> list[Outcome]:
    client = AsyncClient(options.url, token=options.token)
    try:
        return await run(
            client,
            prompts=Prompts(options.simple, options.asking, options.failing),
            model=options.model,
            only=options.only,
            on_outcome=_tell,
        )
    finally:
        await client.aclose()


def _tell(outcome: Outcome) -> None:
    tail = f"\n        {outcome.detail}" if outcome.detail else ""
    print(f"{outcome.status:8}{outcome.check.name}: {outcome.check.promise}{tail}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
