"""
What is known of programs: which can be allowed by their name, and which never by a pattern.

Whatever is not listed here is taken for a program that may run others or their code, as `python3`,
`make`, `find` and `git` do: an "always" answer for it means the exact line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from ._paths import container_path
from ._protected import is_protected, reader_of
from ._shell import SimpleCommand, Word

__all__ = ["evaluates", "scope", "writes_protected_path"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READERS = _words(
    "arch b2sum base32 base64 basename cal cat cksum cmp column comm cut date df diff dirname "
    "du echo egrep expand expr factor false fgrep file fmt fold free getconf grep groups head "
    "hexdump hostname id join jq locale ls md5sum nl nproc numfmt od paste pr printenv printf "
    "ps pwd readlink realpath rev seq sha1sum sha224sum sha256sum sha384sum sha512sum sleep "
    "stat strings sum tac tail test tr true tsort tty type uname unexpand uptime wc which "
    "whoami yes"
)
"""Programs that write nothing and run nothing, whatever their arguments."""

_WRITERS = _words(
    "cd chmod cp ln mkdir mkfifo mktemp mv popd pushd rm rmdir shuf tee touch tree truncate "
    "umask uniq unlink"
)
"""Programs that run nothing, and write, if at all, what their arguments name."""

_GIT_READERS = _words(
    "blame count-objects describe diff log ls-files ls-tree merge-base name-rev rev-list "
    "rev-parse shortlog show show-ref status whatchanged"
)
_GIT_WRITERS = _words("add commit")
"""Sub-commands of git that run nothing that an argument names."""

_EVALUATORS = _words(
    ". alias bind builtin command compgen complete compopt declare enable eval exec export fc "
    "getopts hash history jobs let local mapfile read readarray readonly set shopt source "
    "trap typeset unalias unset wait"
)
"""
Builtins of bash that run code in their arguments (`read 'a[$(cmd)]'`, `trap`, `let`) or change
what the commands after them mean (`export PATH=.`, `alias`, `hash -p`).
"""

_LAUNCHING = _words(
    "awk bash busybox bun bundle cargo cmake crontab dash docker find gawk gdb gmake go gradle "
    "java julia just lua make mawk mvn nawk ninja node nox npm npx octave perl php pip pip3 "
    "pnpm podman poetry psql py.test pytest python python3 R rake Rscript ruby sh sqlite3 "
    "ssh tox uv vim xargs yarn zsh"
)
"""
Programs whose arguments or files are code: a pattern that a user wrote for one allows that code.
What paths its arguments name says nothing more.
"""

_PATTERN = frozenset("*?[")
_COUNTS_INTO_VARIABLE = re.compile(r"%[^%a-zA-Z]*[hlLqjzt]*n")
_PLAIN_VARIABLE = re.compile(r"\$\{?(?:HOME|PWD|TMPDIR)\b\}?")
_REVISION_BRACES = re.compile(r"@\{[\w/:-]*\}(?=$|\.\.|[~^:])")
_OUTPUT_OPTION = re.compile(r"--o(?:u(?:t(?:p(?:u(?:t)?)?)?)?)?(?:=|$)")
_SUFFIX_OPTION = re.compile(r"-[A-Za-z]*S|--su")
_LONGEST = 1000
"""Characters of an argument; a longer one, or one with more `=`, is not looked into."""
_MOST_VALUES = 20
_EXCHANGE_NOTHING = _words("chmod mkdir mkfifo rm rmdir touch truncate unlink")
"""Programs that put no other file or directory in the place of a directory."""
_INTO_LAST = _words("cp ln mv")
_INTO_ANY = _words("shuf tee tree uniq")


def evaluates(command: SimpleCommand) -> bool:
    """
    Whether the command does more than its name says.

    Bash itself may run what the arguments hold, they change later commands, or a program that
    reads is told to write.
    """
    name = command.name
    if command.program == "git":
        return _git_writes(command)
    if name == "printf":
        return _printf_evaluates(command)
    if name == "test":  # `-v` and `-R` take an expression for the index of an array
        return any(w.expands or w.text in ("-v", "-R") for w in command.arguments)
    return name in _EVALUATORS


def _printf_evaluates(command: SimpleCommand) -> bool:
    first = next(iter(command.arguments), None)
    if first is None:
        return False
    is_option = first.text.startswith("-") and first.text != "--"
    counts = any(_COUNTS_INTO_VARIABLE.search(word.text) for word in command.arguments)
    return is_option or first.expands or counts


def _git_writes(command: SimpleCommand) -> bool:
    sub = next((word.text for word in command.arguments), "")
    return sub in _GIT_READERS and any(
        _OUTPUT_OPTION.match(word.text) or (word.expands and _is_unclear(word.text))
        for word in command.arguments
    )


def scope(command: SimpleCommand) -> str | None:
    """
    The widest pattern that an "always" answer may allow for it: the program, or its sub-command.

    None: nothing but the exact line.
    """
    words = command.raw.split(" ")
    if command.name != words[0] or "/" in command.name or evaluates(command):
        return None
    if command.name in _READERS | _WRITERS:
        return f"{command.name} *"
    sub = words[1] if len(words) > 1 else ""
    if command.name == "git" and sub in _GIT_READERS | _GIT_WRITERS:
        return f"git {sub} *"
    return None


def writes_protected_path(
    command: SimpleCommand, workdir: str, allowed: Sequence[str] = ()
) -> bool:
    """
    Whether an argument may name a protected path as something to write.

    `allowed` are patterns of commands; the files that these look for are protected as well.
    Programs that only read are free to name them, and for programs whose arguments are code it
    means nothing.
    """
    program, arguments = command.program, command.arguments
    if program == "git":
        if not _git_writes(command):
            return False
    elif program in _READERS | _LAUNCHING or command.launches:
        return False
    elif is_protected(workdir) or _hides_its_target(program, arguments):
        return True
    if any(len(w.text) > _LONGEST or w.text.count("=") > _MOST_VALUES for w in arguments):
        return True
    paths = {path for text in _operands(arguments) for path in _paths(text, workdir)}
    whole = program not in _EXCHANGE_NOTHING
    if whole and reader_of(workdir, allowed, whole=True) is not None:
        return True
    return any(
        is_protected(path) or reader_of(path, allowed, whole=whole) is not None for path in paths
    )


def _hides_its_target(program: str, arguments: Sequence[Word]) -> bool:
    """Whether the name of what is written does not stand in the arguments as it will be."""
    if any(word.expands and _is_unclear(word.text) for word in arguments):
        return True
    if program in _INTO_ANY:
        return any(_is_pattern(word) for word in arguments)
    if program not in _INTO_LAST:
        return False
    options = [word for word in arguments if word.text.startswith("-")]
    named = [word for word in arguments if not word.text.startswith("-")]
    into = [*options, *named[-1:], *arguments[-1:]]
    return any(map(_is_pattern, into)) or any(_SUFFIX_OPTION.match(w.text) for w in options)


def _operands(arguments: Sequence[Word]) -> Iterator[str]:
    """The arguments; those after `--` in the form that is no option."""
    ended = False
    for word in arguments:
        yield f"./{word.text}" if ended and word.text.startswith("-") else word.text
        ended = ended or word.text == "--"


def _is_pattern(word: Word) -> bool:
    return word.expands and not _PATTERN.isdisjoint(word.text)


def _is_unclear(text: str) -> bool:
    """Whether the shell may make any name of it: a variable, or alternatives in braces."""
    left = _REVISION_BRACES.sub("", _PLAIN_VARIABLE.sub("", text))
    inside = left[left.find("{") : left.rfind("}")] if "{" in left else ""
    return "$" in left or "," in inside or ".." in inside


def _paths(text: str, workdir: str) -> Iterator[str]:
    """What an argument may mean as a path: as it is, or after an option's `=` or letter."""
    text = _PLAIN_VARIABLE.sub(".", text)
    if text.startswith("~/"):
        text = text[2:]
    if not text.startswith("-"):
        yield container_path(posixpath.join(workdir, text))
    elif not text.startswith("--"):  # where its letters end is not known
        for start in range(2, len(text)):
            yield container_path(posixpath.join(workdir, text[start:]))
    if "=" in text:
        yield from _paths(text.partition("=")[2], workdir)
