"""
Hostile texts of our own, by kind, and what every layer of the product makes of them.

`PAYLOADS` are the texts, `Payload.at(url)` is one that points at a server of the test's.
`python -m tests.attacks.payloads` tries all of them on all layers that need no browser.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._markup import HTML, MATHML, SVG
from ._tex import TEX
from ._text import BIDI, MARKDOWN, SIZES, TERMINAL

__all__ = ["NOWHERE", "PAYLOADS", "Payload", "by_kind"]

NOWHERE = "http://127.0.0.1:9"
"""An address where nothing listens."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A hostile text; `id` is its kind and number."""

    id: str
    kind: str
    template: str

    def at(self, url: str = NOWHERE) -> str:
        """The text, with every address in it below `url`."""
        host = url.partition("//")[2]
        return self.template.replace("@host", host).replace("@/", f"{url}/")


def _pieces(text: str) -> list[str]:
    """One payload per line; `⏎` in it is a line end."""
    return [line.replace("⏎", "\n") for line in text.strip("\n").split("\n")]


_TEXTS = {
    "html": _pieces(HTML),
    "svg": _pieces(SVG),
    "mathml": _pieces(MATHML),
    "tex": _pieces(TEX),
    "markdown": _pieces(MARKDOWN),
    "terminal": TERMINAL,
    "bidi": BIDI,
    "sizes": SIZES,
}

PAYLOADS = [
    Payload(f"{kind}-{number:03}", kind, text)
    for kind, texts in _TEXTS.items()
    for number, text in enumerate(texts, 1)
]


def by_kind() -> dict[str, list[Payload]]:
    """The payloads of each kind."""
    return {kind: [p for p in PAYLOADS if p.kind == kind] for kind in _TEXTS}
