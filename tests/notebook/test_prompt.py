from __future__ import annotations

import math
import string
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.notebook._data._prompt import expand


class Config:
    rate = 0.5

    @property
    def failing(self) -> int:
        raise RuntimeError("no")


NAMESPACE = {
    "x": 1,
    "name": "Ada",
    "rows": [10, 20, 30],
    "cfg": {"key": "value", "nested": {"deep": [1]}},
    "config": Config(),
    "brace": "{x}",
    "math": math,
    "größe": 7,
    "def_": len,
    "kind": int,
}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("{x}", "1"),
        ("a{x}b{name}", "a1bAda"),
        ("{rows[0]} {rows[-1]}", "10 30"),
        ("{cfg[\"key\"]} {cfg['key']}", "value value"),
        ('{cfg["nested"]["deep"][0]}', "1"),
        ("{config.rate}", "0.5"),
        ("{math.pi}", str(math.pi)),
        ("{größe}", "7"),
        ("{brace}", "{x}"),  # values are never looked into again
        ("{{x}}", "{x}"),
        ("{{{x}}}", "{1}"),
        ("{{{{x}}}}", "{{x}}"),
        ('{"a": {x}}', '{"a": 1}'),
        ('{"a": {"b": {x}}}', '{"a": {"b": 1}}'),
        ("{{x}, {name}}", "{1, Ada}"),
        ("\\frac{x}{y}", "\\frac1{y}"),
    ],
)
def test_expands(prompt: str, text: str) -> None:
    assert expand(prompt, NAMESPACE).text == text


@pytest.mark.parametrize(
    "prompt",
    [
        "{}",
        "{{}}",
        "{unknown}",
        "{{unknown}}",
        "{{{unknown}}}",
        "{ x }",
        "{x!r}",
        "{x:>10}",
        "{x + 1}",
        "{x()}",
        "{rows[i]}",
        "{rows[9]}",
        "{cfg[key]}",
        "{name.upper.missing}",
        "{config.failing}",
        "{math}",
        "{def_}",
        "{kind}",
        'json = {"x": 1, "name": "y"}',
        "{'k': v for k, v in d.items()}",
        "f'{value:.2f} and {{literal}}'",
        r"\begin{align} \frac{{a}}{{b}} \end{align}",
        "{% for x in rows %}{{ x }}{% endfor %}",
        "$name ${name:-default} $(x) `x`",
        "{x",
        "x}",
        "<b onclick='{alert(1)}'>",
    ],
)
def test_leaves_alone(prompt: str) -> None:
    assert expand(prompt, NAMESPACE).text == prompt


def test_tells_what_it_did() -> None:
    expansion = expand("{x} {rows[9]} {unknown} {{name}} {math}", NAMESPACE)
    assert expansion.used == ("x",)
    assert expansion.unresolved == ("rows[9]", "math")


@given(st.text())
def test_without_variables_nothing_changes(prompt: str) -> None:
    assert expand(prompt, {}).text == prompt


@given(st.text(alphabet=string.punctuation + string.whitespace + "xyz09"))
def test_braces_around_other_names_stay(prompt: str) -> None:
    assert expand(prompt, {"somebody_else": 1}).text == prompt


@given(st.text(alphabet=st.characters(exclude_characters="{}")), st.text(), st.text())
def test_values_arrive_as_they_are(before: str, value: str, other: str) -> None:
    namespace = {"value": value, "other": other}
    expansion = expand(f"{before}{{value}} {{{{value}}}} {{other}}", namespace)
    assert expansion.text == f"{before}{value} {{value}} {other}"


@given(st.integers(1, 9), st.integers(1, 9))
def test_pairs_of_braces_count_as_in_f_strings(opening: int, closing: int) -> None:
    text = expand("{" * opening + "x" + "}" * closing, {"x": "V"}).text
    pairs = min(opening, closing)
    inner = "V" if pairs % 2 else "x"
    assert text == "{" * (opening - pairs // 2 - pairs % 2) + inner + "}" * (
        closing - pairs // 2 - pairs % 2
    )


@pytest.mark.parametrize("unit", ["{", "}", "{x", "{x[0]", "{x.", '{x["', "{{x}}", "{a.b.c"])
@pytest.mark.timeout(60)  # quadratic would take hours
def test_a_megabyte_takes_linear_time(unit: str) -> None:
    prompt = unit * (1_000_000 // len(unit))
    text = expand(prompt, {"x": [1], "a": types.SimpleNamespace(b=1)}).text
    assert len(text) >= len(prompt) // 3
