from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.fake_session import hello, install
from tests.support.kernel import ROOT

FOREIGN = """
from IPython.core.magic import register_line_magic, register_cell_magic
@register_line_magic
def agent(line): print("theirs", line)
"""


def test_load_reload_unload(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(shell, hello)
    manager = shell.extension_manager
    manager.load_extension("agent_magics")
    assert manager.load_extension("agent_magics") == "already loaded"
    manager.reload_extension("agent_magics")
    assert capsys.readouterr().err == ""
    assert shell.run_cell("%agent hi?").success
    manager.unload_extension("agent_magics")
    assert not shell.run_cell("%agent hi").success
    assert "agent" not in shell.magics_manager.magics["cell"]
    assert [c for c in shell.configurables if type(c).__name__ == "AgentMagics"] == []
    assert len(shell.input_transformer_manager.token_transformers) == len(
        {id(t) for t in shell.input_transformer_manager.token_transformers}
    )


def test_taking_over_a_name_is_said_and_undone(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install(shell, hello)
    shell.run_cell(FOREIGN)
    shell.extension_manager.load_extension("agent_magics")
    assert capsys.readouterr().err == "agent_magics takes over %agent from another extension.\n"
    shell.run_cell("%agent hi")
    assert "You said: hi" in capsys.readouterr().out
    shell.extension_manager.unload_extension("agent_magics")
    shell.run_cell("%agent hi")
    assert "theirs hi" in capsys.readouterr().out


def test_the_session_survives_a_reload(shell: Any) -> None:
    client = install(shell, hello)
    shell.extension_manager.load_extension("agent_magics")
    shell.run_cell("%agent one")
    shell.extension_manager.reload_extension("agent_magics")
    shell.run_cell("%agent two")
    assert [call[0] for call in client.calls].count("create") == 1


def test_warm_up_does_not_wait_and_keeps_errors_to_itself(shell: Any) -> None:
    client = install(shell, hello)
    client.health = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    shell.config.AgentMagics.warm_up = True
    shell.extension_manager.load_extension("agent_magics")
    assert shell.run_cell("%agent hi").success


LOADED = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
config.AgentMagics.warm_up = False
shell = InteractiveShell.instance(config=config)
before = set(sys.modules)
shell.extension_manager.load_extension("agent_magics")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_loading_imports_next_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    new = set(json.loads(done.stdout))
    heavy = {"httpx", "ipywidgets", "anywidget", "markdown_it", "pydantic_ai", "starlette"}
    assert not heavy & {name.partition(".")[0] for name in new}
    assert not [n for n in new if n.startswith(("agent_magics.engine", "agent_magics.sandbox"))]


USED = """
import sys
import agent_magics.client, agent_magics.notebook, agent_magics.widgets
from agent_magics.notebook import _core, _extension
from agent_magics.notebook._turn import _shell
from agent_magics.notebook._turn import _turn
banned = ("agent_magics.engine", "agent_magics.sandbox", "pydantic_ai", "starlette", "uvicorn")
print([name for name in sys.modules if name.startswith(banned)])
"""


def test_the_kernel_never_imports_the_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", USED], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_lazy_names() -> None:
    import agent_magics
    from agent_magics import notebook

    for module in (agent_magics, notebook):
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert list(module.__all__) == sorted(
            module.__all__, key=lambda n: (n[0].islower() or n[0] == "_", n)
        )
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = module.nonsense
