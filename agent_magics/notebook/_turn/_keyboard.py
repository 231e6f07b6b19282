"""Asking on the keyboard: at a terminal, and through a kernel's stdin channel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ._pump import CommPump

__all__ = ["KernelKeyboard", "Keyboard", "TerminalKeyboard"]


class Keyboard(Protocol):
    """`ask()` puts a question, `answer()` gives the line that was typed, `None` if none yet."""

    def ask(self, prompt: str) -> None:
        """Put the question. Raises `OSError` or `NotImplementedError` when that cannot be."""

    def answer(self) -> str | None:
        """The typed line. Raises `EOFError` when no line will come."""


class TerminalKeyboard:
    """`input()`: blocks until a line is typed."""

    def __init__(self, pump: CommPump) -> None:
        self._pump = pump
        self._prompt = ""

    def ask(self, prompt: str) -> None:
        self._prompt = prompt

    def answer(self) -> str | None:
        with self._pump.blocking():
            return input(self._prompt)


class KernelKeyboard:
    """
    An input field in the cell, without waiting for it: buttons and Stop work on meanwhile.

    What `Kernel.raw_input` does, cut in two halves. Uses the kernel's `stdin_socket` and
    `_parent_ident`, as that does; to be used on the kernel's main thread.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def ask(self, prompt: str) -> None:
        zmq = import_module("zmq")
        kernel = self._kernel
        try:
            while True:  # answers to earlier questions
                kernel.stdin_socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            pass
        except AttributeError:
            raise NotImplementedError("this kernel has no stdin channel") from None
        kernel.session.send(
            kernel.stdin_socket,
            "input_request",
            {"prompt": prompt, "password": False},
            kernel.get_parent("shell"),
            ident=kernel._parent_ident["shell"],
        )

    def answer(self) -> str | None:
        if not self._kernel.stdin_socket.poll(0):
            return None
        _, reply = self._kernel.session.recv(self._kernel.stdin_socket)
        if reply is None:
            return None
        value = str(reply["content"].get("value", ""))
        if value == "\x04":
            raise EOFError
        return value
