"""The configuration file: what it may say and what is refused."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from agent_magics.engine import _config
from agent_magics.engine._config import (
    CompactionConfig,
    ConfigError,
    EngineConfig,
    LimitsConfig,
    ProviderConfig,
    TimeoutsConfig,
)
from agent_magics.engine._config_tables import CommandConfig, McpConfig
from agent_magics.engine._policy import Rule
from agent_magics.engine._snapshots import SnapshotLimits
from agent_magics.sandbox import KubernetesOptions, OciOptions, ProviderOptions


def load(tmp_path: Path, text: str, **environ: str) -> EngineConfig:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return EngineConfig.load(path, environ)


def test_everything(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        model = "lab/qwen"
        sandbox = "bubblewrap"
        [providers.lab]
        base_url = "http://127.0.0.1:8000/v1/"
        api_key_env = "LAB_KEY"
        models = ["qwen", "org/other"]
        [providers.anthropic]
        base_url = "https://proxy.example.org"
        [permission]
        write = "ask"
        bash = {"*" = "ask", "git *" = "allow"}
        [commands.test]
        template = "Run $path"
        description = "Run"
        model = "lab/qwen"
        [mcp.files]
        command = "server"
        args = ["--root", "/data"]
        env = {TOKEN = "${FILES_TOKEN}"}
        tools = ["read"]
        [mcp.web]
        url = "https://mcp.example.org/mcp"
        headers = {Authorization = "Bearer ${WEB_TOKEN}"}
        enabled = false
        [compaction]
        auto = false
        threshold = 0.5
        context_limit = 32768
        [limits]
        steps = 20
        tokens = 100000
        cost = 2
        [snapshot]
        largest_file = 10
        """,
    )
    assert config.commands == {"test": CommandConfig("Run $path", "Run", model="lab/qwen")}
    assert config.mcp == {
        "files": McpConfig(
            command=("server", "--root", "/data"),
            env={"TOKEN": "${FILES_TOKEN}"},
            tools=("read",),
        ),
        "web": McpConfig(
            url="https://mcp.example.org/mcp",
            headers={"Authorization": "Bearer ${WEB_TOKEN}"},
            enabled=False,
        ),
    }
    assert "TOKEN" not in repr(config.mcp)
    assert config.snapshot == SnapshotLimits(file=10 << 20, total=2 << 30)
    assert config.model == "lab/qwen"
    assert config.sandbox == "bubblewrap"
    assert config.providers == {
        "lab": ProviderConfig(
            "openai", "http://127.0.0.1:8000/v1", "LAB_KEY", ("qwen", "org/other")
        ),
        "anthropic": ProviderConfig("anthropic", "https://proxy.example.org"),
    }
    assert config.rules == (
        Rule("write", "*", "ask"),
        Rule("bash", "*", "ask"),
        Rule("bash", "git *", "allow"),
    )
    assert config.compaction == CompactionConfig(False, 0.5, 32768)
    assert config.limits == LimitsConfig(20, 100_000, 2.0)
    assert config.limits.source == str(tmp_path / "config.toml")


def test_the_environment_wins(tmp_path: Path) -> None:
    text = 'model = "a/b"\nsandbox = "auto"'
    config = load(tmp_path, text, AGENT_MAGICS_MODEL=" c/d ", AGENT_MAGICS_SANDBOX="local")
    assert (config.model, config.sandbox) == ("c/d", "local")
    config = load(tmp_path, text, AGENT_MAGICS_MODEL="", AGENT_MAGICS_SANDBOX=" ")
    assert (config.model, config.sandbox) == ("a/b", "auto")


def test_which_file_is_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = home / ".config" / "agent-magics" / "config.toml"
    assert EngineConfig.load(None, {"HOME": str(home)}) == EngineConfig()
    file.parent.mkdir(parents=True)
    file.write_text('model = "a/home"')
    assert EngineConfig.load(None, {"HOME": str(home)}).model == "a/home"
    xdg = {"HOME": str(home), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert EngineConfig.load(None, xdg).model is None
    named = {"HOME": str(home), "AGENT_MAGICS_CONFIG": str(tmp_path / "missing.toml")}
    with pytest.raises(ConfigError, match=r"missing\.toml.*does not exist"):
        EngineConfig.load(None, named)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = ", "not valid TOML"),
        ("\udcff", "not valid TOML"),
        ("[commands.x]\n", "commands.x.template: is missing"),
        ("[commands.x]\ntemplate = 1", "commands.x.template: must be a text"),
        ("[commands.x]\nshell = 'ls'", "commands.x.shell: unknown key"),
        ("[commands.'a b']\ntemplate = 'x'", "commands.a b: use letters"),
        ("commands = 1", "commands: must be a table"),
        ("[mcp.x]\n", "mcp.x: needs either `command` or `url`"),
        ("[mcp.x]\ncommand = 'a'\nurl = 'http://b'", "mcp.x: needs either"),
        ("[mcp.X_Y]\ncommand = 'a'", "mcp.X_Y: use small letters"),
        ("[mcp.x]\nurl = 'ftp://b'", "mcp.x.url: must be an http"),
        ("[mcp.x]\nurl = 'http://b'\nargs = []", "mcp.x.args: has no meaning beside `url`"),
        ("[mcp.x]\ncommand = 'a'\nheaders = {}", "mcp.x.headers: has no meaning"),
        ("[mcp.x]\ncommand = 'a'\nenabled = 'no'", "mcp.x.enabled: must be true or false"),
        ("[mcp.x]\ncommand = 'a'\nenv = {A = 1}", "mcp.x.env: must have texts"),
        ("[mcp.x]\ncommand = 'a'\ntools = 'b'", "mcp.x.tools: must be a list"),
        ("modle = 'x'", "modle: unknown key; known are model, sandbox"),
        ("model = 3", "model: must be a text"),
        ("model = ' '", "model: must be a text"),
        ("sandbox = 'bwrap'", "sandbox: 'bwrap' is not one of auto, bubblewrap"),
        ("providers = 'x'", "providers: must be a table"),
        ("[providers]\nx = 1", "providers.x: must be a table"),
        ("[providers.demo]", "providers.demo: this name is built in"),
        ("[providers.'a/b']", "providers.a/b: use letters"),
        ("[providers.x]\nkind = 'grpc'", 'providers.x.kind: must be "openai" or "anthropic"'),
        ("[providers.x]\nbase_url = 'localhost:80'", "providers.x.base_url: must be an http"),
        ("[providers.x]\napi_key = 'sk-1'", "api_key: keys don't belong in this file"),
        ("[providers.x]\napi_key_env = 'sk-1'", "api_key_env: must be the name of"),
        ("[providers.x]\nmodels = 'y'", "providers.x.models: must be a list of texts"),
        ("[providers.x]\ntimeout = 1", "providers.x.timeout: unknown key"),
        ("[permission]\nbash = 'maybe'", "permission.bash: 'maybe' is not"),
        ("[permission]\nbash = {'ls *' = 1}", "permission.bash: 1 is not"),
        ("[permission]\nbash = 1", "permission.bash: must be a table"),
        ("compaction = 1", "compaction: must be a table"),
        ("[compaction]\nautomatic = true", "compaction.automatic: unknown key"),
        ("[compaction]\nauto = 1", "compaction.auto: must be true or false"),
        ("[compaction]\nthreshold = 0", "compaction.threshold: must be a number above 0"),
        ("[compaction]\nthreshold = 80", "compaction.threshold: must be a number above 0 and at"),
        ("[compaction]\nthreshold = nan", "compaction.threshold: must be a number above 0"),
        ("[compaction]\nthreshold = true", "compaction.threshold: must be a number above 0"),
        ("[compaction]\ncontext_limit = 1.5", "compaction.context_limit: must be a whole number"),
        ("[limits]\nstep = 1", "limits.step: unknown key"),
        ("[limits]\nsteps = 0", "limits.steps: must be a whole number above 0"),
        ("[limits]\ntokens = true", "limits.tokens: must be a whole number above 0"),
        ("[limits]\ncost = '5'", "limits.cost: must be a number above 0"),
        ("snapshot = 1", "snapshot: must be a table"),
        ("[snapshot]\nfile = 1", "snapshot.file: unknown key"),
        ("[snapshot]\ntotal = -1", "snapshot.total: must be a number"),
        ("[snapshot]\ntotal = true", "snapshot.total: must be a number"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        EngineConfig.load(path, {})
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_bad_sandbox_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="AGENT_MAGICS_SANDBOX: 'x'"):
        EngineConfig.load(None, {"HOME": "/nonexistent", "AGENT_MAGICS_SANDBOX": "x"})


def test_containers(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[sandbox]\nprovider = "podman"\n'
        '[sandbox.podman]\nimage = "img:1"\npython = "host"\ncgroup_limits = false\n'
        'tmp_size = 3\narguments = ["--gpus=all"]\n'
        '[sandbox.kubernetes]\nnamespace = "agents"\nstorage = "pvc"\nstart_timeout = 9\n'
    )
    config = EngineConfig.load(path, {})
    assert config.sandbox == "podman"
    assert config.containers.podman == OciOptions("img:1", "host", False, 3 << 20, ("--gpus=all",))
    assert config.containers.docker == OciOptions()
    assert config.containers.kubernetes == KubernetesOptions(
        namespace="agents", storage="pvc", start_timeout=9
    )
    assert EngineConfig.load(path, {"AGENT_MAGICS_SANDBOX": "local"}).sandbox == "local"
    path.write_text("")
    assert EngineConfig.load(path, {}).containers == ProviderOptions()


_TIMEOUTS = """
[timeouts]
connect = 5
content = 0.5
[providers.lab]
base_url = "http://lab/v1"
timeouts = {first_byte = 1800}
[providers.other]
base_url = "http://other/v1"
"""


def test_timeouts(tmp_path: Path) -> None:
    """A provider's table stands over the general one, and that over the defaults."""
    config = load(tmp_path, _TIMEOUTS)
    general = TimeoutsConfig(connect=5, first_byte=600, between_bytes=300, content=0.5)
    assert config.timeouts == general
    assert config.providers["lab"].timeouts == replace(general, first_byte=1800)
    assert config.providers["other"].timeouts is None  # the general ones
    source = str(tmp_path / "config.toml")
    assert config.timeouts.key == f"[timeouts] in {source}"
    assert config.providers["lab"].timeouts.key == f"[providers.lab.timeouts] in {source}"


def test_documented_timeouts_are_the_defaults(tmp_path: Path) -> None:
    table = re.compile(r"^ *\[timeouts\][^\n]*\n(?: *\w+ = [^\n]*\n)+", re.MULTILINE)
    readme = Path(__file__).parents[2] / "README.md"
    for text in (readme.read_text(), _config.__doc__ or ""):
        found = table.search(text)
        assert found
        assert load(tmp_path, found[0]).timeouts == TimeoutsConfig()
        assert all(f.name in found[0] for f in fields(TimeoutsConfig) if f.name != "key")


@pytest.mark.parametrize("table", ["timeouts", "providers.lab.timeouts"])
@pytest.mark.parametrize("name", ["connect", "first_byte", "between_bytes", "content"])
@pytest.mark.parametrize("value", ["0", "-1", "'5'", "true", "[5]", "nan"])
def test_bad_timeouts(tmp_path: Path, table: str, name: str, value: str) -> None:
    text = f"[providers.lab]\nbase_url = 'http://lab/v1'\n[{table}]\n{name} = {value}"
    with pytest.raises(ConfigError, match=f"{table}.{name}: must be a number above 0"):
        load(tmp_path, text)


@pytest.mark.parametrize("prefix", ["", "providers.lab."])
def test_timeouts_that_are_none(tmp_path: Path, prefix: str) -> None:
    head = "[providers.lab]\nbase_url = 'http://lab/v1'\n" if prefix else ""
    with pytest.raises(ConfigError, match=f"{prefix}timeouts: must be a table"):
        load(tmp_path, f"{head}timeouts = 30")
    with pytest.raises(ConfigError, match=rf"{prefix}timeouts.read: unknown key.*first_byte"):
        load(tmp_path, f"{head}timeouts = {{read = 30}}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sandbox = 5", "sandbox: must be a text"),
        ("[sandbox]\nprovider = 'lxc'", "sandbox.provider: 'lxc' is not one of auto, bubblewrap"),
        ("[sandbox.lxc]", "sandbox.lxc: unknown key; known are provider, podman, docker, kuber"),
        ("[sandbox]\npodman = 1", "sandbox.podman: must be a table"),
        ("[sandbox.podman]\nimages = 'x'", "sandbox.podman.images: unknown key"),
        ("[sandbox.docker]\npython = 'own'", "sandbox.docker.python: must be one of image, host"),
        ("[sandbox.docker]\ncgroup_limits = 1", "cgroup_limits: must be true or false"),
        ("[sandbox.kubernetes]\nstorage = 'nfs'", "storage: must be one of emptyDir, pvc"),
    ],
)
def test_bad_containers(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        EngineConfig.load(path, {})
    assert complaint in str(caught.value)
