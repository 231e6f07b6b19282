"""
The `agent-magics` command: `demo`, `serve`, `doctor`, `sessions`.

Everything it knows comes from the packages beside it; heavy ones are imported by the command
that needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import site
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    from .client import Client
    from .wire import Unclaimed, UnclaimedWorkspace

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "01_quickstart.ipynb"
TURN_MIME = "application/vnd.agent-magics.turn+json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Bad usage exits with 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="agent-magics", description="Work with a coding agent from notebook cells."
    )
    parser.add_argument("--version", action="version", version=f"agent-magics {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run the quickstart notebook and say what happened")
    demo.add_argument("--notebook", type=Path, default=NOTEBOOK, help="the notebook to run")
    demo.add_argument("--output", type=Path, help="where to save it (default: out/ beside it)")
    demo.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    demo.set_defaults(run=_demo)

    serve = commands.add_parser("serve", help="run the agent server for other machines or programs")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=int, default=4096, help="port to listen on, 0 for any")
    serve.set_defaults(run=_serve)

    doctor = commands.add_parser("doctor", help="check container, models and engine")
    doctor.set_defaults(run=_doctor)

    sessions = commands.add_parser("sessions", help="list the sessions of this user's engine")
    sessions.add_argument("--json", action="store_true", help="print JSON")
    sessions.set_defaults(run=_sessions)
    actions = sessions.add_subparsers(metavar="ACTION")
    recover = actions.add_parser(
        "recover", help="make sessions of workspaces without one, or repair damaged ones"
    )
    recover.add_argument("names", nargs="*", metavar="NAME", help="as `sessions` lists them")
    recover.add_argument("--all", action="store_true", help="all that `sessions` lists")
    recover.set_defaults(run=_recover)

    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


# ---- demo


def _demo(options: argparse.Namespace) -> int:
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        return _fail(f"{error.name} is missing", "pip install 'agent-magics[demo]'")
    source: Path = options.notebook
    if not source.is_file():
        return _fail(f"there is no notebook {source}", "run it in a checkout, or pass --notebook")
    output: Path = options.output or source.parent / "out" / source.name

    print(f"Running {_short(source)} ...", flush=True)
    notebook = nbformat.read(source, as_version=4)
    runner = NotebookClient(
        notebook,
        timeout=options.timeout,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(source.parent)}},
    )
    failure = ""
    try:
        runner.execute()
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, output)

    _print_turns(notebook)
    print(f"Saved with all outputs: {_short(output)}")
    if failure:
        return _fail(f"a cell failed: {failure}", f"open {_short(output)}")
    return 0


def _print_turns(notebook: Any) -> None:
    """What the turns of the executed notebook did: from the record each of them leaves."""
    turns = list(_records(notebook))
    for number, turn in enumerate(turns, 1):
        tools = Counter(turn["tools"])
        answers = Counter(answer["reply"] for answer in turn["permissions"])
        tokens, sandbox = turn["tokens"], turn["sandbox"]
        print(f"Turn {number}: {turn['outcome']} after {turn['seconds']:.1f} s")
        print(f"  model: {_one_line(turn['model'])}")
        print(
            f"  container: {sandbox['provider']}{'' if sandbox['isolated'] else ' (NOT isolated)'}"
        )
        print(f"  tools: {_counted(tools)}")
        print(f"  permission requests: {_counted(answers)}")
        print(f"  files to look at: {', '.join(map(_named, turn['files'])) or 'none'}")
        print(f"  tokens: {tokens['input']} in, {tokens['output']} out")
    if not turns:
        print("No turn of the agent is in it.")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{_one_line(name)} x{count}" for name, count in counts.items()) or "none"


def _records(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if TURN_MIME in output.get("data", {}):
                yield output["data"][TURN_MIME]


# ---- serve


def _serve(options: argparse.Namespace) -> int:
    from .engine.__main__ import main as run_engine

    return run_engine(["--host", options.host, "--port", str(options.port)])


# ---- doctor


def _doctor(options: argparse.Namespace) -> int:
    print(f"agent-magics {__version__}, Python {sys.version.split()[0]}, {sys.executable}")
    checks = [
        _check_sandbox(),
        _check_layers(),
        _check_limits(),
        _check_network(),
        _check_models(),
        _check_engine(),
        _check_labextension(),
    ]
    return 0 if all(checks) else 1


def _check_sandbox() -> bool:
    """Whether the chosen container works; the others are looked at as well, where that is free."""
    from .engine._config import ConfigError, EngineConfig
    from .sandbox import CONTAINERS, probe

    try:
        config = EngineConfig.load(None, os.environ)
    except ConfigError:  # said with the models
        config = EngineConfig()
    chosen = "bubblewrap" if config.sandbox == "auto" else config.sandbox
    names = CONTAINERS if chosen in CONTAINERS else (*CONTAINERS, chosen)
    works = False
    for report in probe(names, config.containers):
        name, text = f"container: {report.name}", report.reason
        if report.note:
            text = f"works. {report.note}"
        if report.name == chosen:
            works = report.works
            if report.name == "local":
                text = text or "works, and does not isolate at all"
            _finding(name, report.works, text, report.next_step)
        else:
            _finding(name, report.works, text, report.next_step, mark="--")
    if chosen != "kubernetes":
        print("[--] container: kubernetes: not tried, for it makes a pod; choose it to try it")
    return works


def _check_layers() -> bool:
    """What the kernel adds to the container's own walls."""
    from .sandbox import landlock_version

    found = landlock_version()
    if found:
        _finding("Landlock", True, f"version {found}; writes in containers are bound twice", "")
    else:
        text = "not in this kernel, or switched off; the container's mounts bind writes alone"
        _finding("Landlock", False, text, "add landlock to the kernel's lsm= list", mark="--")
    return True


def _check_limits() -> bool:
    from .engine._config import ConfigError, EngineConfig
    from .engine._container_limits import limits_text

    try:
        limits = EngineConfig.load(None, os.environ).container_limits
    except ConfigError as error:
        _finding("limits", False, str(error), "correct the configuration file")
        return False
    _finding("limits of a container", True, limits_text(limits), "")
    return True


def _check_network() -> bool:
    from .engine._config import ConfigError, EngineConfig

    try:
        network = EngineConfig.load(None, os.environ).network
    except ConfigError as error:
        _finding("network", False, str(error), "correct the configuration file")
        return False
    if not network.on:
        _finding("network", True, "none in containers", "[network] in the configuration opens it")
        return True
    hosts = ", ".join(network.allow) or "none"
    others = "asked about" if network.ask else "refused"
    text = f"containers reach without asking: {hosts}; other hosts are {others}"
    if network.deny:
        text += f"; never: {', '.join(network.deny)}"
    if network.private:
        text += f"; private ones that are open: {', '.join(network.private)}"
    _finding("network", True, text, "")
    return True


def _check_models() -> bool:
    from .engine._config import ConfigError, EngineConfig
    from .engine.models import ModelRegistry

    try:
        registry = ModelRegistry(EngineConfig.load(None, os.environ), os.environ)
    except ConfigError as error:
        _finding("models", False, str(error), "correct the configuration file")
        return False
    names = [
        f"{provider['id']}/{model}"
        for provider in registry.providers()
        for model in provider["models"]
    ]
    default = registry.default()
    next_step = "set OPENAI_API_KEY or ANTHROPIC_API_KEY" if default.startswith("demo/") else ""
    _finding("models", True, f"default {default}; found: {', '.join(names)}", next_step)
    return True


def _check_engine() -> bool:
    from .client import AgentError, Client

    try:
        with Client() as client:
            health = client.health()
            damaged = [item for item in client.list_sessions() if item.problem]
            unclaimed = _unclaimed(client)
    except AgentError as error:
        _finding("engine", False, str(error), "agent-magics serve shows why it does not start")
        return False
    _finding("engine", True, f"version {health.version}, protocol {health.protocol}", "")
    for item in damaged:
        _finding(f"session {item.id}", False, item.problem, "", mark="--")
    if unclaimed is not None:
        _check_unclaimed(unclaimed)
    return True


def _check_unclaimed(unclaimed: Unclaimed) -> None:
    """Files without a session; they are kept, so nothing is wrong with the engine."""
    for each in unclaimed.workspaces:
        text = f"{_named(each.path)} ({_size(each)}, last changed {_moment(each.newest).strip()})"
        next_step = f"agent-magics sessions recover {_named(each.name)}"
        _finding("workspace without a session", False, text, next_step, mark="--")
    for store in unclaimed.stores:
        name = "damaged store, kept" if store.damaged else "copy of the store before a migration"
        _finding(name, False, f"{_named(store.path)} ({_bytes(store.size)})", "", mark="--")


def _check_labextension() -> bool:
    """Where JupyterLab's part is; all magics work without it."""
    places = [Path(base) / "share/jupyter/labextensions/agent-magics" for base in _bases()]
    found = next((place for place in places if (place / "package.json").is_file()), None)
    if found is not None:
        _finding("JupyterLab extension", True, f"installed in {_short(found)}", "")
    else:
        text = "not in this environment; the magics work without it"
        next_step = "install a wheel of agent-magics, or its source where Node and npm are"
        _finding("JupyterLab extension", False, text, next_step, mark="--")
    return True


def _bases() -> list[str]:
    """Where this Python's data files are installed."""
    return [sys.prefix, *([site.USER_BASE] if site.USER_BASE else [])]


def _finding(name: str, good: bool, text: str, next_step: str, mark: str = "!!") -> None:
    print(f"[{'ok' if good else mark}] {name}: {_one_line(text) or 'works'}")
    if next_step:
        print(f"     next: {_one_line(next_step)}")


# ---- sessions


def _sessions(options: argparse.Namespace) -> int:
    from .client import AgentError, Client

    try:
        with Client() as client:
            sessions = client.list_sessions()
            unclaimed = None if options.json else _unclaimed(client)
    except AgentError as error:
        return _fail(str(error), "agent-magics doctor")
    if options.json:
        keys = ("id", "title", "status", "model", "sandbox", "time_updated")
        print(json.dumps([{key: getattr(item, key) for key in keys} for item in sessions]))
        return 0
    for item in sessions:
        updated = datetime.fromtimestamp(item.time_updated / 1000).strftime("%Y-%m-%d %H:%M")
        print(f"{item.id}  {updated}  {item.status:10}  {_one_line(item.title)}")
        if item.problem:
            print(f"    {_one_line(item.problem)}")
    if not sessions:
        print("No sessions yet.")
    if unclaimed is not None:
        _print_unclaimed(unclaimed)
    return 0


def _unclaimed(client: Client) -> Unclaimed | None:
    """What the engine keeps without a session; None from another kind of server."""
    from .client import ProtocolError

    try:
        return client.get_unclaimed()
    except ProtocolError:
        return None


def _print_unclaimed(unclaimed: Unclaimed) -> None:
    if unclaimed.workspaces:
        print("\nWorkspaces without a session (agent-magics sessions recover NAME, or --all):")
    for each in unclaimed.workspaces:
        print(f"{_named(each.name)}  {_moment(each.newest)}  {_size(each)}  {_named(each.path)}")
    if unclaimed.stores:
        print("\nStores that were kept (delete them when nothing is missing):")
    for store in unclaimed.stores:
        kind = "damaged" if store.damaged else "copy before a migration"
        print(f"{_named(store.path)}  {_bytes(store.size)}  {kind}")


def _recover(options: argparse.Namespace) -> int:
    from .client import AgentError, ApiError, Client

    if bool(options.names) == options.all:
        return _fail("no workspace is named", "name some of agent-magics sessions, or --all")
    failures = 0
    try:
        with Client() as client:
            names = options.names
            if options.all:
                names = [each.name for each in client.get_unclaimed().workspaces]
                damaged = [item for item in client.list_sessions() if item.problem]
                names += [item.id for item in damaged if "sessions recover" in item.problem]
            for name in names:
                try:
                    info = client.recover_session(name).get_info()
                except ApiError as error:
                    failures += 1
                    print(f"agent-magics: {_one_line(str(error))}", file=sys.stderr)
                else:
                    print(f"{info.id}  {_one_line(info.title)}")
    except AgentError as error:
        return _fail(str(error), "agent-magics doctor")
    if not names:
        print("There is nothing to recover.")
    return 1 if failures else 0


def _named(name: str) -> str:
    """A name as it can be printed and typed, whatever bytes it has."""
    return name if name.isprintable() and _one_line(name) == name else ascii(name)


def _moment(milliseconds: int) -> str:
    if not milliseconds:
        return "empty".ljust(16)
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M")


def _size(workspace: UnclaimedWorkspace) -> str:
    return ("" if workspace.complete else "more than ") + _bytes(workspace.size)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


# ---- words


def _fail(problem: str, next_step: str) -> int:
    said = f"agent-magics: {problem.removesuffix('.')}. Next: {next_step}."
    print(_one_line(said), file=sys.stderr)
    return 1


def _one_line(text: str) -> str:
    """What others wrote, for a terminal: nothing in it steers, hides or begins a line."""
    from .widgets import visible

    return visible(" ".join(text.split()))


def _short(path: Path) -> str:
    """The path as a person would type it here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
