"""An exported conversation in Markdown has nothing active in it."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from agent_magics.widgets import inert_markdown


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)> <script>x</script>",
        "![x](http://evil.test/i.png) ![x][r] text",
        "[x](javascript:alert(1)) [y](/api/shutdown) [z]( <javascript:1>) [w](//evil.test)",
        "[x][r]\n\n[r]: javascript:alert(1)\n> [s]: /api/shutdown\n\n[s]",
        "$\\href{x}{y}$ and \\\\(a\\\\) \\\\[b\\\\] \\begin{a}x\\end{a}",
        r"\(\href{x}{y}\) and \[x\](javascript:alert) \[y\]",
        "&#36;x&#36; &dollar;y&dollar;",
        "| `a | $x$ | b` |\n|---|---|---|\n",
        "\\`$x$ y$\\`",
        "`a` $x$ `b` <b>y</b>",
        "- ```\n  $x$\n  ```\n  <b>$y$</b>\n",
        r"\$5 up to \$7 \\$5 up to \\$7",
        r"\![x](http://evil.test/i.png) \\![x](http://evil.test/i.png)",
        r"\<b>y</b> \&lt; \`$x$\`",
    ],
)
def test_nothing_is_active(text: str) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(inert_markdown(text))
    html = re.sub(r"<code.*?</code>", "", html, flags=re.DOTALL)
    assert not re.search(r"<(?:img|script|b)\b", html)
    assert html.count("<span>") == html.count("</span>")  # browsers pass over a loose end
    assert all(url.startswith("http://") for url in re.findall(r'<a href="([^"]*)', html))
    for run in re.split(r"<[^>]*>", html):
        assert len(run) == 1 or not set(run) & set("$\\"), run


@pytest.mark.parametrize(
    "text",
    [
        "`<img src=x onerror=alert(1)>`{=html}",
        '`x`{style="background:url(http://evil.test)"} [x]{onclick=alert(1)}',
        "# a {onclick=alert(1)}",
        "[x](https://x.test){onclick=alert(1)}\n{: onclick=alert(1)}",
        "{::nomarkdown} {{< raw >}} {% include x %} {{ site }}",
        "{raw}`x` {eval}`x`",
        "| `x`{=html} |\n|---|\n\n::: {onclick=alert(1)}\nx\n:::",
        r"`x`\{=html} \\{=html}",
    ],
)
def test_no_attributes_roles_and_templates_of_other_readers(text: str) -> None:
    shown = inert_markdown(text)
    assert "{" not in shown
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(shown)
    assert html.count("{") == text.replace("\\{", "{").count("{")


def test_what_is_harmless_stays() -> None:
    text = (
        "# A *title*\n\n- [x](https://x.test/a) `a<b` & 1\n\n```sh\necho $x <y>\n```\n\\* no list"
    )
    assert inert_markdown(text) == text.replace("& 1", "&amp; 1")
    assert inert_markdown("costs $5") == "costs <span>$</span>5"


@pytest.mark.parametrize(
    "language", ["mermaid", "vega-lite", "stl", "dataviewjs", "{mermaid}", "math", "MATH", "abc"]
)
def test_blocks_that_viewers_draw_or_run_are_text(language: str) -> None:
    assert inert_markdown(f"```{language}\nx\n```") in ("```text\nx\n```", "```\nx\n```")
    assert inert_markdown(f"- ~~~ {language} more\n  x\n  ~~~").split()[2] in ("text", "x")
