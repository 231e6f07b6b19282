"""
What a shell command line would run, as far as that can be told from its text alone.

The permission policy must never let `ls; rm -rf .` ride on a rule for `ls *`. So this reads only
the plain part of the shell's language: words, quotes, harmless redirections and the separators
`;` `&` `&&` `|` `||` and newline. A line that holds anything else (substitutions, subshells,
redirections to files, assignments, keywords, here documents, unbalanced quotes, odd blanks) is
*opaque*: for it only its whole text counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["CommandLine", "SimpleCommand", "Word", "analyse"]

_KEYWORDS = (
    "! [[ ]] { } case coproc do done elif else esac fi for function if in select then time "
    "until while"
)
_LAUNCHERS = (
    ". ash bash builtin busybox chroot command csh dash doas env eval exec fish flock ionice "
    "ksh nice nohup nsenter parallel script setarch setpriv setsid sh source ssh stdbuf strace "
    "su sudo taskset tcsh timeout trap unshare watch xargs zsh"
)
KEYWORDS = frozenset(_KEYWORDS.split())
"""Words that start or continue a compound command."""
LAUNCHERS = frozenset(_LAUNCHERS.split())
"""Commands whose arguments are commands: their name says nothing about what runs."""

_HARMLESS_REDIRECTION = re.compile(
    r"(?:2>&1|1?>&2|[12&]?>>?[ ]?/dev/null|<[ ]?/dev/null)(?![^ \t\n;|&])"
)
_PARAMETER = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\}|[0-9?$#@*!-])")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[.*\])?\+?=", re.DOTALL)
_MAX_LENGTH = 50_000
"""Longer lines (in characters) are opaque: nobody can judge them anyway."""
_NOT_LITERAL = frozenset("$*?[]{}~")
_CANDIDATE_BREAK = re.compile(r"[;|&\n(){}`<>]|\$\(")


@dataclass(frozen=True)
class Word:
    """A word without its quotes; `expands` when the shell may make something else of it."""

    text: str
    expands: bool = False


@dataclass(frozen=True)
class SimpleCommand:
    """
    One command and its arguments.

    `raw` is its text with single blanks between the words; `plain` the same without quotes.
    """

    raw: str
    plain: str
    name: str
    arguments: tuple[Word, ...] = ()

    @property
    def program(self) -> str:
        """The name without its directory."""
        return self.name.rpartition("/")[2]

    @property
    def launches(self) -> bool:
        """Whether it runs another command that its arguments name."""
        return self.program in LAUNCHERS


@dataclass(frozen=True)
class CommandLine:
    """
    A command line taken apart.

    `commands` are all that it runs, in order. When `opaque` is true that is not known for sure
    and `commands` is only what could be guessed: good for saying no, never for saying yes.
    """

    text: str
    commands: tuple[SimpleCommand, ...] = ()
    opaque: bool = False

    @property
    def simple(self) -> bool:
        """Whether it is exactly one command and nothing else."""
        return not self.opaque and len(self.commands) == 1


class _OpaqueError(Exception):
    """The text leaves the plain part of the language."""


@dataclass
class _Word:
    raw: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    expands: bool = False
    """Whether the shell makes something else of it (a variable, a pattern)."""

    def add(self, raw: str, plain: str) -> None:
        self.raw.append(raw)
        self.plain.append(plain)


@dataclass
class _Scanner:
    text: str
    position: int = 0
    words: list[_Word] = field(default_factory=list)
    word: _Word | None = None
    commands: list[SimpleCommand] = field(default_factory=list)

    def scan(self) -> tuple[SimpleCommand, ...]:
        while self.position < len(self.text):
            self.step(self.text[self.position])
        self.end_command()
        if not self.commands:
            raise _OpaqueError
        return tuple(self.commands)

    def step(self, char: str) -> None:
        if char in " \t":
            self.end_word()
            self.position += 1
        elif char in ";|&\n" and not self.redirection():
            self.end_command()
            self.position += 1
        elif char in "<>12&" and self.word is None and self.redirection():
            self.skip_redirection()
        elif char == "'":
            self.single_quoted()
        elif char == '"':
            self.double_quoted()
        elif char == "\\":
            self.escaped()
        elif char == "$":
            self.parameter()
        else:
            self.ordinary(char)

    def redirection(self) -> re.Match[str] | None:
        if self.word is not None:
            return None
        return _HARMLESS_REDIRECTION.match(self.text, self.position)

    def skip_redirection(self) -> None:
        match = self.redirection()
        if match is None or not self.words:
            raise _OpaqueError
        self.position = match.end()

    def ordinary(self, char: str) -> None:
        if char in "`()<>" or (char.isspace() or not char.isprintable()):
            raise _OpaqueError
        if char == "#" and self.word is None:
            raise _OpaqueError
        word = self.current()
        word.expands = word.expands or char in _NOT_LITERAL
        word.add(char, char)
        self.position += 1

    def current(self) -> _Word:
        if self.word is None:
            self.word = _Word()
        return self.word

    def single_quoted(self) -> None:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise _OpaqueError
        inner = self.text[self.position + 1 : end]
        self.current().add(f"'{inner}'", inner)
        self.position = end + 1

    def double_quoted(self) -> None:
        word = self.current()
        word.add('"', "")
        self.position += 1
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == '"':
                word.add('"', "")
                self.position += 1
                return
            if char == "$":
                self.parameter()
            elif char == "\\":
                self.escaped()
            elif char == "`":
                raise _OpaqueError
            else:
                word.add(char, char)
                self.position += 1
        raise _OpaqueError

    def escaped(self) -> None:
        following = self.text[self.position + 1 : self.position + 2]
        if not following or following == "\n":
            raise _OpaqueError
        self.current().add("\\" + following, following)
        self.position += 2

    def parameter(self) -> None:
        match = _PARAMETER.match(self.text, self.position)
        if match is None:
            raise _OpaqueError
        word = self.current()
        word.expands = True
        word.add(match.group(), match.group())
        self.position = match.end()

    def end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
            self.word = None

    def end_command(self) -> None:
        self.end_word()
        if not self.words:
            return
        first = self.words[0]
        name = "".join(first.plain)
        if first.expands or not name or name in KEYWORDS or _ASSIGNMENT.match(name):
            raise _OpaqueError
        self.commands.append(
            SimpleCommand(
                raw=" ".join("".join(word.raw) for word in self.words),
                plain=" ".join("".join(word.plain) for word in self.words),
                name=name,
                arguments=tuple(Word("".join(w.plain), w.expands) for w in self.words[1:]),
            )
        )
        self.words = []


def analyse(text: str) -> CommandLine:
    """Take the command line `text` apart. Never raises; what it can't read is opaque."""
    if "\0" in text or len(text) > _MAX_LENGTH:
        return CommandLine(text, _guess(text), opaque=True)
    try:
        return CommandLine(text, _Scanner(text).scan())
    except _OpaqueError:
        return CommandLine(text, _guess(text), opaque=True)


def _guess(text: str) -> tuple[SimpleCommand, ...]:
    """Everything in an opaque line that might be a command: used to find what is forbidden."""
    commands = []
    for piece in _CANDIDATE_BREAK.split(text):
        words = re.sub(r"[\"'\\]", "", piece).split()
        while words and (words[0] in KEYWORDS or _ASSIGNMENT.match(words[0])):
            words.pop(0)
        if words:
            joined = " ".join(words)
            commands.append(SimpleCommand(joined, joined, words[0]))
    return tuple(commands)
