"""The permission policy: what may run, and that nothing rides along."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.engine._policy import DEFAULT_RULES, Rule, decide
from agent_magics.engine._shell import analyse


def bash(command: str, *rules: tuple[str, str]) -> str:
    extra = tuple(Rule("bash", pattern, action) for pattern, action in rules)  # type: ignore[arg-type]
    return decide(DEFAULT_RULES + extra, "bash", {"command": command}).action


ALLOWED_BY_LS = [
    "ls",
    "ls -l",
    "ls  -l\t/tmp",
    "ls 'a; rm -rf b'",
    'ls "a && rm b"',
    "ls a\\;b",
    'ls "$HOME" $PWD ${HOME}',
    "ls *.csv [ab]? {a,b} ~",
    "ls 2>&1",
    "ls >/dev/null 2>&1",
    "ls 2> /dev/null",
    "ls </dev/null",
    "ls a#b",
    "ls; ls",
    "ls | ls && ls || ls & ls",
    "ls\nls\n",
    "ls 'a\nrm b'",
]

NOT_ALLOWED_BY_LS = [
    "",
    " ",
    "lsx",
    "ls; rm -rf .",
    "ls;rm -rf .",
    "ls && rm x",
    "ls || rm x",
    "ls | sh",
    "ls |& sh",
    "ls & rm x",
    "ls\nrm x",
    "ls\r\nrm x",
    "rm x; ls",
    "ls $(rm x)",
    'ls "$(rm x)"',
    "ls `rm x`",
    'ls "`rm x`"',
    "ls ${x:=$(rm x)}",
    "ls ${x@P}",
    "ls $((a[$(rm x)]))",
    "ls $[1]",
    "ls $'a\\'; rm x; echo '",
    'ls $"x"',
    "ls <(rm x)",
    "ls >(rm x)",
    "ls > file",
    "ls >> file",
    "ls >| file",
    "ls &> file",
    "ls 2> file",
    "ls >/dev/nullx",
    "ls >/dev/null/../x",
    "ls 2>&1x",
    "ls < file",
    "ls << EOF\nx\nEOF\nrm x",
    "ls <<< x",
    "(ls)",
    "{ ls; }",
    "ls() { rm x; }",
    "ls ()\n{ rm x; }; ls",
    "function ls { rm x; }",
    "if ls; then rm x; fi",
    "for f in *; do rm $f; done",
    "while ls; do rm x; done",
    "! ls",
    "time ls",
    "FOO=1 ls",
    "LD_PRELOAD=./x.so ls",
    "PATH=/tmp ls",
    "a[0]=1 ls",
    "ls # comment\nrm x",
    "ls \\\nrm x",
    "ls \\",
    "ls 'unclosed",
    'ls "unclosed',
    'ls "a\\"; rm x',
    "l\\s; rm x",
    "$LS -l",
    "{ls,-l}",
    "l?",
    "l*",
    "~/ls",
    "'ls -l'",
    "ls\0; rm x",
    "ls\u00a0x",
    "ls\u2028rm x",
    "ls\x0brm",
    "eval ls",
    "exec ls",
    "env ls",
    "sudo ls",
    "xargs ls",
    "bash -c ls",
    "echo x | xargs ls",
    "coproc ls",
    "[ -f ls ]",
    "[[ -f ls ]]",
    "((ls))",
]


@pytest.mark.parametrize("command", ALLOWED_BY_LS)
def test_a_prefix_rule_allows_its_command(command: str) -> None:
    assert bash(command) == "ask"
    assert bash(command, ("ls *", "allow")) == "allow"


@pytest.mark.parametrize("command", NOT_ALLOWED_BY_LS)
def test_nothing_rides_on_a_prefix_rule(command: str) -> None:
    assert bash(command, ("ls *", "allow")) == "ask"


@pytest.mark.parametrize("command", [c for c in NOT_ALLOWED_BY_LS if c.strip()])
def test_the_exact_text_and_the_universal_rule_allow_anything(command: str) -> None:
    assert bash(command, ("*", "allow")) == "allow"
    (always,) = decide(DEFAULT_RULES, "bash", {"command": command}).always
    assert bash(command, (always, "allow")) == "allow"
    assert bash(command + " more; rm y", (always, "allow")) == "ask"


@pytest.mark.parametrize(
    ("command", "always"),
    [
        ("ls -l", "ls *"),
        ("ls", "ls *"),
        ("python3 -c 'print(1)\nprint(2)'", "python3 -c 'print(1)\nprint(2)'"),
        ("./run.sh x", "./run.sh x"),
        ("git status --short", "git status *"),
        ("ls; pwd", "ls; pwd"),
        ("ls > x", "ls > x"),
        ("sudo ls *", "sudo ls [*]"),
        ("bash -c 'ls'", "bash -c 'ls'"),
        ("'ls' -l", "'ls' -l"),
        ("ls *; rm x", "ls *; rm x"),
    ],
)
def test_what_always_offers(command: str, always: str) -> None:
    decision = decide(DEFAULT_RULES, "bash", {"command": command})
    assert decision.patterns == (command,)
    assert decision.always == (always,)
    assert bash(command, (always, "allow")) == "allow"


def test_an_exact_compound_text_is_no_pattern() -> None:
    rule = ("ls *; rm *", "allow")
    assert bash("ls *; rm *", rule) == "allow"
    assert bash("ls a; rm b", rule) == "ask"
    assert bash("ls a; rm b; rm c", rule) == "ask"


@pytest.mark.parametrize(
    "command",
    [
        "rm x",
        "rm",
        "ls; rm x",
        "ls\nrm x",
        "rm\tx",
        '"rm" x',
        "r\\m x",
        "/bin/rm x",
        "echo $(rm x)",
        "echo `rm x`",
        "x=$(rm y) ls",
        "(rm x)",
        "if true; then rm x; fi",
        "FOO=1 rm x",
        "sudo rm x",
        "env A=b rm x",
        "timeout 5 rm x",
        "bash -c 'rm x'",
        "find . | xargs rm",
        "rm x > log",
    ],
)
def test_a_deny_rule_finds_its_command(command: str) -> None:
    assert bash(command, ("*", "allow"), ("rm *", "deny")) == "deny"


@pytest.mark.parametrize("command", ["echo $(date)", "cat < x", "eval $x", "sudo ls"])
def test_a_narrow_rule_after_a_universal_one_makes_unclear_lines_ask(command: str) -> None:
    assert bash(command, ("*", "allow")) == "allow"
    assert bash(command, ("*", "allow"), ("rm *", "deny")) == "ask"
    assert bash(command, ("rm *", "deny"), ("*", "allow")) == "allow"


def test_the_last_match_wins() -> None:
    assert bash("git push", ("git *", "allow"), ("git push *", "deny")) == "deny"
    assert bash("git status", ("git *", "allow"), ("git push *", "deny")) == "allow"
    assert bash("git push", ("git push *", "deny"), ("git *", "allow")) == "allow"
    assert bash("git status; git push", ("git *", "allow"), ("git push *", "deny")) == "deny"


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("x.txt", "allow"),
        ("a/b/x.txt", "allow"),
        ("/workspace/x", "allow"),
        ("/workspace/a/../x", "allow"),
        ("//workspace//x", "allow"),
        ("/tmp/x", "allow"),
        ("/workspace/[a]*.txt", "allow"),
        ("../x", "deny"),
        ("a/../../etc/passwd", "deny"),
        ("/workspace/../etc/passwd", "deny"),
        ("/workspacex/y", "deny"),
        ("/etc/passwd", "deny"),
        ("/", "deny"),
        ("/tmp/../root/x", "deny"),
        ("/workspace/a\0b", "deny"),
        ("~/x", "allow"),
    ],
)
@pytest.mark.parametrize("tool", ["write", "edit"])
def test_edits_stay_in_the_workspace(tool: str, path: str, action: str) -> None:
    assert decide(DEFAULT_RULES, tool, {"filePath": path}).action == action


def test_path_rules_may_be_relative_and_edit_means_write_too() -> None:
    rules = (*DEFAULT_RULES, Rule("edit", "*.lock", "deny"), Rule("edit", "secret/*", "ask"))
    assert decide(rules, "write", {"filePath": "a/b.lock"}).action == "deny"
    asking = decide(rules, "edit", {"filePath": "secret/x"})
    assert (asking.action, asking.patterns) == ("ask", ("/workspace/secret/x",))
    assert asking.always == ("/workspace/*",)
    assert decide(rules, "edit", {"filePath": "public/x"}).action == "allow"


@pytest.mark.parametrize("tool", ["read", "grep", "glob", "todowrite", "todoread"])
def test_reading_and_todos_are_free(tool: str) -> None:
    assert decide(DEFAULT_RULES, tool, {"filePath": "/etc/passwd", "path": "/"}).action == "allow"


def test_unknown_tools_ask_and_bad_arguments_are_harmless() -> None:
    assert decide(DEFAULT_RULES, "teleport", {}).action == "ask"
    assert decide((*DEFAULT_RULES, Rule("tele*", "*", "allow")), "teleport", {}).action == "allow"
    assert decide(DEFAULT_RULES, "bash", {"command": ["ls"]}).action == "ask"
    assert decide(DEFAULT_RULES, "write", {}).action == "deny"
    assert decide((), "bash", {"command": "ls"}).action == "ask"


WORD = st.text("abc./-_0", min_size=1, max_size=6)
ARGUMENT = st.one_of(WORD, st.sampled_from(["'x; y'", '"a && b"', "\\;", "$HOME", "*", '"$x"']))
SIMPLE = st.builds(
    lambda name, arguments: " ".join([name, *arguments]),
    st.sampled_from(["ls", "cat", "rm", "curl"]),
    st.lists(ARGUMENT, max_size=3),
)
JOIN = st.sampled_from([";", " ; ", "&&", " || ", "|", " |& ", "\n", " & ", "; \n "])
WRAP = st.sampled_from(
    ["{}", "({})", "$({})", "`{}`", "{{ {}; }}", "x={}", "! {}", "{} > f", "<({})"]
)


@given(st.lists(st.tuples(JOIN, SIMPLE), min_size=1, max_size=5))
def test_a_compound_is_allowed_only_if_every_command_is(pieces: list[tuple[str, str]]) -> None:
    command = pieces[0][1] + "".join(join + simple for join, simple in pieces[1:])
    rules = (("ls *", "allow"), ("cat *", "allow"))
    names = {simple.split(" ")[0] for _, simple in pieces}
    assert bash(command, *rules) == ("allow" if names <= {"ls", "cat"} else "ask")


@given(SIMPLE, WRAP, st.lists(st.tuples(JOIN, SIMPLE), max_size=2))
def test_wrapped_commands_are_never_allowed_by_a_prefix(
    simple: str, wrap: str, rest: list[tuple[str, str]]
) -> None:
    wrapped = wrap.format(simple)
    command = wrapped + "".join(join + other for join, other in rest)
    rules = tuple((f"{name} *", "allow") for name in ("ls", "cat", "rm", "curl"))
    if wrapped != simple:
        assert bash(command, *rules) == "ask"


@given(st.text("ls rm;&|\n$(){}`'\"\\<>#=!*?[]~\t\0é ", max_size=30))
def test_any_text_gets_an_answer(command: str) -> None:
    line = analyse(command)
    decision = decide(DEFAULT_RULES, "bash", {"command": command})
    assert decision.action == "ask"
    assert line.opaque or line.commands


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_agrees_on_what_runs(tmp_path: Path) -> None:
    """Random lines that a rule for `a *` allows run nothing but `a` in a real bash."""
    generator = random.Random(20)
    alphabet = "aaaaa b;;&|\n\n$\"\"''\\\\ (){}<>`#=!*~21\t -/"
    claimed: set[str] = set()
    while len(claimed) < 250:
        length = generator.randint(1, 14)
        text = "a" + "".join(generator.choice(alphabet) for _ in range(length))
        if bash(text, ("a *", "allow")) == "allow":
            claimed.add(text)
    log = tmp_path / "ran"
    prologue = 'PATH=/nowhere\ncommand_not_found_handle() { echo "$1" >> "$RAN"; }\n'
    cage = tmp_path / "cage"
    cage.mkdir()
    for text in sorted(claimed):
        log.write_text("")
        subprocess.run(
            ["bash", "--norc", "-c", prologue + text],
            cwd=cage,
            env={"RAN": str(log)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
        )
        assert set(log.read_text().split()) <= {"a"}, text
        assert not list(cage.iterdir()), text
