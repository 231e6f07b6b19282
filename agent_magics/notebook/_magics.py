"""The magics: options and variables here, the work in `_core`. Kept cheap to import."""

from __future__ import annotations

import re
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable

from ._options import SANDBOXES, MagicParser, agent_parser, shell_parser
from ._prompt import expand

__all__ = ["MAGIC_NAMES", "AgentMagics"]

MAGIC_NAMES = ("agent", "agent_shell")


_IPYTHONS_OWN = re.compile(r"__.*|_+\d*|_i+\d*|_[iod]h")  # dunders, history of inputs and outputs


class _Secret(str):
    """Text that does not show itself in `%config`, which prints values into the notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class _SecretTrait(Unicode):  # type: ignore[misc]  # traitlets' base is untyped here
    def validate(self, obj: Any, value: Any) -> Any:
        return _Secret(super().validate(obj, value))


@magics_class
class AgentMagics(Magics, Configurable):  # type: ignore[misc]  # IPython's base is untyped here
    """Settings of `%%agent` and `%agent_shell`: `%config AgentMagics.model = "..."` sets one."""

    model = Unicode(
        None,
        allow_none=True,
        help="provider/model-id for every turn. Unset: the engine's configured or found model.",
    ).tag(config=True)
    sandbox = Enum(
        SANDBOXES,
        None,
        allow_none=True,
        help="Container of new sessions. 'local' is no container: the agent works as you do.",
    ).tag(config=True)
    permissions = Enum(
        ("ask", "once", "always", "reject"),
        "ask",
        help="The answer to the agent's permission requests: yours, or always this one.",
    ).tag(config=True)
    headless = Enum(
        ("reject", "once", "always"),
        "reject",
        help="The answer to permission requests where nobody can be asked (nbclient, papermill).",
    ).tag(config=True)
    permission_timeout = Float(
        None,
        allow_none=True,
        min=0,
        help=(
            "Seconds after which an unanswered request is rejected. Unset: no limit. "
            "A question at a terminal's prompt waits for its answer."
        ),
    ).tag(config=True)
    show_reasoning = Bool(True, help="Show the model's reasoning, folded.").tag(config=True)
    url = Unicode(
        None, allow_none=True, help="Server to use. Unset: the embedded engine is started."
    ).tag(config=True)
    token = _SecretTrait(
        None,
        allow_none=True,
        help="Token for `url`. Better in the environment: AGENT_MAGICS_TOKEN.",
    ).tag(config=True)
    warm_up = Bool(
        True, help="Start the embedded engine in the background as soon as the magics are loaded."
    ).tag(config=True)

    @no_var_expand  # type: ignore[untyped-decorator]
    @needs_local_scope  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def agent(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> None:
        """Give the agent a task in the notebook's session."""
        from ._core import ask
        from ._errors import TurnFailed

        options, text = agent_parser().parse_line(line)
        if options.help:
            return _print_help(agent_parser())
        prompt = _with_cell(text, cell)
        if not prompt.strip():
            agent_parser().error("the prompt is empty")
        notes: tuple[str, ...] = ()
        if not options.raw:
            expansion = expand(prompt, self._variables(local_ns))
            prompt = expansion.text
            notes = tuple(f"{{{name}}} is sent as it is" for name in expansion.unresolved)
        store = self._store(options.out)
        try:
            result = ask(
                prompt,
                session=None if options.session == "new" else options.session,
                new=options.new or options.session == "new",
                title=options.title,
                model=options.model,
                agent=options.agent,
                permissions=options.permissions,
                timeout=options.timeout,
                sandbox=options.sandbox,
                notes=notes,
            )
        except TurnFailed as failed:
            if failed.result is not None:
                store(failed.result)
            raise
        store(result)
        return None

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def agent_shell(self, line: str, cell: str | None = None) -> None:
        """Run a command in the container of the notebook's session."""
        from ._core import shell

        options, text = shell_parser().parse_line(line)
        if options.help:
            return _print_help(shell_parser())
        command = _with_cell(text, cell)
        if not command.strip():
            shell_parser().error("the command is empty")
        result = shell(command, timeout=options.timeout, cwd=options.cwd)
        if options.out:
            self.shell.user_ns[options.out] = result
        return None

    def _variables(self, local_ns: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """What the user defined: without IPython's own names and without dunder names."""
        hidden = getattr(self.shell, "user_ns_hidden", {})
        user_ns = {
            name: value
            for name, value in self.shell.user_ns.items()
            if not _IPYTHONS_OWN.fullmatch(name) and not (name in hidden and hidden[name] is value)
        }
        if local_ns is None or local_ns is self.shell.user_ns:
            return user_ns
        return ChainMap(dict(local_ns), user_ns)

    def _store(self, name: str | None) -> Callable[[Any], None]:
        def store(result: Any) -> None:
            self.shell.user_ns["_agent"] = result
            if name:
                self.shell.user_ns[name] = result

        return store


def _with_cell(text: str, cell: str | None) -> str:
    """Text of the magic's own line, then the cell without its last line break."""
    if cell is None:
        return text
    body = cell.removesuffix("\n")
    return f"{text}\n{body}" if text else body


def _print_help(parser: MagicParser) -> None:
    sys.stdout.write(parser.format_help())


for _name, _parser in (("agent", agent_parser()), ("agent_shell", shell_parser())):
    AgentMagics.__dict__[_name].__doc__ = _parser.format_help()  # what `%agent?` shows
