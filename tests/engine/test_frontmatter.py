"""Front matter: what is understood, and that a hostile file is only refused."""

from __future__ import annotations

import pytest

from agent_magics.engine._frontmatter import FrontMatterError, parse_markdown


def test_fields_and_text() -> None:
    data = (
        "\ufeff---\r\nname: x\r\ndescription: >\r\n  two\r\n  lines\r\nn: 3\r\n---\r\n\r\nText\r\n"
    )
    file = parse_markdown(data.encode())
    assert file.text == "Text"
    assert (file.get("name"), file.get("description")) == ("x", "two lines")
    assert file.get("n") is None and file.get("missing") is None


@pytest.mark.parametrize(
    "data", [b"Just text", b"--- no\n---\nJust text", b"\n---\na: b\n---\n", b"---\na: b\n"]
)
def test_a_file_without_front_matter_is_all_text(data: bytes) -> None:
    file = parse_markdown(data)
    assert file.text == data.decode().strip() and file.fields == {}


def test_empty_front_matter() -> None:
    assert parse_markdown(b"---\n---\nText").text == "Text"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"---\na: [\n---\n", "not valid YAML"),
        (b"---\n!!python/object/apply:os.system [id]\n---\n", "not valid YAML"),
        (b"---\n" + b"[" * 10_000 + b"\n---\n", "not valid YAML"),
        (b"---\n- a\n---\n", "name: value"),
        (b"---\na: 2020-99-99\n---\n", "not valid YAML"),
        (b"---\na: " + b"x" * 20_000 + b"\n---\n", "longer than"),
    ],
)
def test_broken_files(data: bytes, complaint: str) -> None:
    with pytest.raises(FrontMatterError, match=complaint):
        parse_markdown(data)
