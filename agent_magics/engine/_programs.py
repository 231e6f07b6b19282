"""
What is known of programs: which can be allowed by their name, and which never by a pattern.

Whatever is not listed here is taken for a program that may run others or their code, as `python3`,
`make`, `find` and `git` do: an "always" answer for it means the exact line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from ._paths import container_path
from ._protected import is_protected
from ._shell import SimpleCommand

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

_COUNTS_INTO_VARIABLE = re.compile(r"%[^%a-zA-Z]*[hlLqjzt]*n")
_PLAIN_VARIABLE = re.compile(r"\$\{?(?:HOME|PWD|TMPDIR)\b\}?")
_OUTPUT_OPTION = re.compile(r"--?o(?:u(?:t(?:p(?:u(?:t)?)?)?)?)?(?:=|$)")


def evaluates(command: SimpleCommand) -> bool:
    """Whether bash itself may run what the arguments hold, or they change later commands."""
    name = command.name
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


def writes_protected_path(command: SimpleCommand, workdir: str) -> bool:
    """
    Whether an argument may name a protected path as something to write.

    Programs that only read are free to, and for programs whose arguments are code it means
    nothing.
    """
    program = command.program
    if program in _READERS | _LAUNCHING or command.launches:
        return False
    arguments = command.arguments
    if program == "git":
        sub = arguments[0].text if arguments else ""
        if sub not in _GIT_READERS:
            return False
        texts = [word.text for word in arguments]
        named = [after for text, after in pairwise(texts) if _OUTPUT_OPTION.fullmatch(text)]
        named += [text for text in texts if _OUTPUT_OPTION.match(text)]
        return any(_names_protected(text, workdir) for text in named)
    for word in arguments:
        if word.expands and _is_unclear(word.text):
            return True
        if _names_protected(word.text, workdir):
            return True
    return False


def _is_unclear(text: str) -> bool:
    """Whether the shell may make any name of it: a variable, or alternatives in braces."""
    left = _PLAIN_VARIABLE.sub("", text)
    return "$" in left or "{" in left


def _names_protected(text: str, workdir: str) -> bool:
    return any(is_protected(path) for path in _paths(text, workdir))


def _paths(text: str, workdir: str) -> Iterator[str]:
    """What an argument may mean as a path: as it is, or after an option's `=` or letter."""
    text = _PLAIN_VARIABLE.sub(".", text)
    if text.startswith("~/"):
        text = text[2:]
    if not text.startswith("-"):
        yield container_path(f"{workdir}/{text}" if not text.startswith("/") else text)
    if "=" in text:
        yield from _paths(text.partition("=")[2], workdir)
    elif text.startswith("-") and not text.startswith("--"):  # where its letters end is not known
        for start in range(2, len(text)):
            yield container_path(text[start:])
