"""What the magics do that tell about the magics: help, settings, and the checks of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.oinspect import getdoc

from ...widgets import Columns, Listing
from .._core import settings_of
from .._errors import TurnFailed
from .._frontend import current_shell
from .._options import choice
from .._turn._wait import patiently

__all__ = ["agent_config", "agent_doctor", "agent_help"]

_PATIENCE = 120.0  # seconds


def agent_help(options: Namespace) -> Listing[Any] | None:
    tables = current_shell().magics_manager.magics
    found = {name: function for kind in ("line", "cell") for name, function in tables[kind].items()}
    ours = [name for name in sorted(found) if name.split("_")[0] == "agent"]
    if options.name:
        sys.stdout.write(f"{getdoc(found[_one_of(ours, options.name)])}\n")
        return None
    columns: Columns = {
        "magic": lambda name: " and ".join(
            mark + name for kind, mark in (("line", "%"), ("cell", "%%")) if name in tables[kind]
        ),
        "what it does": lambda name: _summary(getdoc(found[name]) or ""),
    }
    caption = "%agent_help NAME tells the options of each; %agent_config shows the settings"
    return Listing(ours, columns, caption=caption)


def _one_of(names: list[str], wanted: str) -> str:
    for name in (wanted.lstrip("%"), f"agent_{wanted}"):
        if name in names:
            return name
    try:
        return str(choice(*names)(wanted.lstrip("%")))
    except ArgumentTypeError as error:
        raise UsageError(f"%agent_help: {error}") from None


def _summary(text: str) -> str:
    """The first clause of the description, which follows the usage line."""
    paragraphs = text.split("\n\n")
    description = paragraphs[1] if len(paragraphs) > 1 else text
    return re.split(r"[.;:] | \(default", " ".join(description.split()))[0].rstrip(".")


def agent_config(options: Namespace) -> Listing[Any]:
    settings = settings_of(current_shell())
    assert settings is not None  # they are loaded together with this magic
    traits = sorted(settings.traits(config=True).items())
    columns: Columns = {
        "setting": lambda item: item[0],
        "value": lambda item: repr(getattr(settings, item[0])),
        "meaning": lambda item: item[1].help,
    }
    caption = "%config AgentMagics.NAME = value changes one for this notebook"
    return Listing(traits, columns, caption=caption)


def agent_doctor(options: Namespace) -> None:
    command = [sys.executable, "-m", "agent_magics.cli", "doctor"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = patiently(lambda: process.communicate(timeout=_PATIENCE), process.kill)
    except subprocess.TimeoutExpired:
        process.kill()
        raise TurnFailed(
            f"the checks were not over after {_PATIENCE:g} s", name="Timeout"
        ) from None
    sys.stdout.write(output.decode("utf-8", "replace"))
