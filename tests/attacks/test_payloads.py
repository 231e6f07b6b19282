"""Every payload in every layer that needs no browser."""

from __future__ import annotations

import pytest

from tests.attacks.payloads import PAYLOADS, Payload
from tests.attacks.payloads.layers import LAYERS
from tests.support.page_audit import find_hidden, find_problems


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.id)
def test_a_payload_is_inert(payload: Payload) -> None:
    found = {layer: check(payload.at()) for layer, check in LAYERS.items()}
    assert {layer: problems for layer, problems in found.items() if problems} == {}


@pytest.mark.parametrize(
    "html",
    [
        "<script></script>",
        "<b onclick=x>",
        "<a href='javascript:x' rel='noopener noreferrer'>",
        "<a href='https://example.org/'>",
        "<a href='http://a@b/' rel='noopener noreferrer'>",
        "<a href='/api/shutdown' rel='noopener noreferrer'>",
        "<div style='background:url(x)'>",
        "<div style='margin:-90em'>",
        "<div style='position:fixed'>",
        "<div class='jp-Dialog'>",
        "<img src='https://x/'>",
        "<mspace width='90em'>",
        "<math href='x'>",
        "<!-- x -->",
        "$x$",
        "5$ and <!-- -->7$",
        "<p>$x<br>y$</p>",
        r"\(x",
        r"a \[x\]",
        r"\begin {align}",
        r"\eqref{x}",
        r"costs \$5",
        "`x`",
        "<math><mtext>$x$</mtext></math>",
    ],
)
def test_the_audit_finds(html: str) -> None:
    assert find_problems(html)


@pytest.mark.parametrize(
    "html",
    [
        "<a href='https://example.org/?a=1' rel='noopener noreferrer nofollow'>x</a>",
        "costs $5 up to <span>$</span>7",
        "<pre>$x$</pre> <code>\\(x\\)</code>",
        "<p>$5</p><p>$7</p>",
        "<math display='block'><mspace width='0.167em'></mspace></math>",
    ],
)
def test_the_audit_admits(html: str) -> None:
    assert find_problems(html) == []


def test_hidden_characters_are_found() -> None:
    assert find_hidden("ok \u00e9\n\t") == []
    assert find_hidden("a\u202eb\x1b") == ["U+202E", "U+001B"]
    assert find_hidden("a\u200db\u00a0") == []
    assert find_hidden("a\u200db\u00a0", is_command=True) == ["U+200D", "U+00A0"]
