from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from agent_magics.notebook._options import agent_parser, shell_parser


def test_options_end_where_the_text_begins() -> None:
    options, text = agent_parser().parse_line('--model a/b --out=x  Look  at "this"  --model file')
    assert (options.model, options.out) == ("a/b", "x")
    assert text == 'Look  at "this"  --model file'


def test_quotes_and_equals() -> None:
    options, text = agent_parser().parse_line("""--title "My \\"big\\" plan" --model='a b/c' go""")
    assert options.title == 'My "big" plan'
    assert options.model == "a b/c"
    assert text == "go"


def test_an_empty_value_and_an_escaped_blank() -> None:
    options, text = agent_parser().parse_line('--title "" --model a\\ b/c')
    assert (options.title, options.model, text) == ("", "a b/c", "")


def test_double_dash_ends_the_options() -> None:
    options, text = agent_parser().parse_line("--raw -- --model is a word")
    assert options.raw
    assert options.model is None
    assert text == "--model is a word"


@pytest.mark.parametrize("text", ["-1 + 2 = ?", "- a list", "--- line", "what is 5 --5", "'quo"])
def test_text_that_only_looks_like_an_option(text: str) -> None:
    _, rest = agent_parser().parse_line(text)
    assert rest == text


def test_a_value_may_begin_with_a_dash() -> None:
    options, _ = agent_parser().parse_line("--title -x- go")
    assert options.title == "-x-"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--modle a/b", "unknown option --modle; did you mean --model?"),
        ("--modle=a/b", "unknown option --modle; did you mean --model?"),
        ("--mod a/b", "unknown option --mod"),
        ("-x go", "unknown option -x"),
        ("--permissions alway go", "did you mean always?"),
        ("--sandbox lxc go", "none of auto, bubblewrap, podman, docker, kubernetes, local"),
        ("--timeout soon go", "is not a number of seconds"),
        ("--timeout -3 go", "is not a number of seconds"),
        ("--timeout nan go", "is not a number of seconds"),
        ("--timeout inf go", "is not a number of seconds"),
        ("--out 1x go", "is not a name for a variable"),
        ("--out class go", "is not a name for a variable"),
        ("--session abc go", "is no session id"),
        ("--session ses_../.. go", "is no session id"),
        ("--model", "option --model needs a value"),
        ('--title "open', "a quote is not closed"),
        ("--raw=1 go", "ignored explicit argument"),
    ],
)
def test_bad_options_are_usage_errors(line: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        agent_parser().parse_line(line)
    assert words in str(raised.value)
    assert str(raised.value).startswith("%agent: ")
    assert "usage: %agent [options]" in str(raised.value)
    assert type(raised.value) is UsageError  # IPython shows no other class as one line


def test_shell_commands_are_left_alone() -> None:
    command = r"""for f in *.csv; do echo "$f: {$(wc -l < "$f")}"; done | awk '{print $1}' \\ x"""
    options, text = shell_parser().parse_line(f"--timeout 2.5 --cwd /tmp {command}")
    assert (options.timeout, options.cwd, text) == (2.5, "/tmp", command)


@given(st.text().filter(lambda text: not text.lstrip().startswith("-")))
def test_any_other_text_is_kept(text: str) -> None:
    _, rest = agent_parser().parse_line(text)
    assert rest == text.lstrip()


@given(st.text())
def test_any_text_is_kept_behind_the_double_dash(text: str) -> None:
    _, rest = agent_parser().parse_line("-- " + text)
    assert rest == text.lstrip()


def test_help_lists_every_option() -> None:
    options, _ = agent_parser().parse_line("--help")
    assert options.help
    text = agent_parser().format_help()
    for name in ("--session", "--model", "--out", "--raw", "--permissions", "--sandbox"):
        assert name in text


def test_options_behind_the_beginning_of_the_text_are_told() -> None:
    parser = agent_parser()
    _, text = parser.parse_line("--new explain --model x and --model=y --nope")
    assert text == "explain --model x and --model=y --nope"
    assert parser.notes_on(text) == (
        "--model is sent as a part of the text: options come before it",
    )
    assert parser.notes_on("a -- b, 3--new") == ()
