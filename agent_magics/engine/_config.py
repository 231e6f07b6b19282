"""
The engine's configuration: a TOML file and a few environment variables.

    model = "anthropic/claude-sonnet-5-5"     # or AGENT_MAGICS_MODEL, which wins
    sandbox = "auto"                          # or AGENT_MAGICS_SANDBOX, which wins; or a table:
                                              # see _config_sandbox

    [providers.lab]                           # used as "lab/<model id>"
    kind = "openai"                           # the protocol: "openai" or "anthropic"
    base_url = "http://gpu.example.org:8000/v1"
    api_key_env = "LAB_API_KEY"               # left out: the server needs no key
    models = ["qwen3-coder"]                  # left out: any model id is passed on
    timeouts = {first_byte = 1800}            # for this provider; see [timeouts]

    [timeouts]                                # seconds that a model server may be silent
    connect = 15                              # until there is a connection
    first_byte = 600                          # from the request to the first byte of the reply
    between_bytes = 300                       # between two bytes of a reply
    content = 600                             # in which only keep-alives come

    [snapshot]                                # what reverts can bring back, in megabytes
    largest_file = 50                         # larger files are left as they are
    total = 2048                              # all contents kept for one session

    [permission]
    webfetch = "deny"                         # one action for the tool ...
    bash = {"*" = "ask", "git status *" = "allow"}   # ... or by pattern, the last match wins

    [network]                                 # of containers; without this table they have none
    allow = ["packages", "data.example.org"]  # groups, hosts, "host:port", "*.example.edu"
    deny = ["paste.example.org"]              # whatever is answered or allowed elsewhere
    ask = true                                # about other hosts; false: they are refused
    private = ["wiki.lab", "10.1.0.0/16"]     # not public, yet to be reached: see the README
    index = "https://pypi.example.edu/simple" # for pip; left out: the public one
    on = true                                 # false: only for sessions that ask for it

    [commands.test]                           # session.run_command("test", {"path": "./src"})
    template = "Run the tests in $path and mend what fails."
    description = "Run the tests"             # and model, agent; all but the template optional

    [mcp.github]                              # its tools are `github_...`; or url and headers
    command = "github-mcp-server"
    args = ["stdio"]
    env = {GITHUB_TOKEN = "${GITHUB_TOKEN}"}  # ${NAME}: from the engine's environment
    tools = ["get_issue", "list_issues"]      # left out: all; enabled = false switches it off

    [agents.reviewer]                         # a new agent, or changes of a built-in one
    description = "Reads changes and says what is wrong with them."
    model = "lab/qwen3-coder"                 # left out: the session's
    instructions = "Be brief."                # or a list; they follow the engine's own
    temperature = 0.2
    tools = {write = false, edit = false}     # what is not mentioned stays on
    permission = {bash = {"*" = "ask", "rm *" = "deny"}}
    mode = "all"                              # or "primary", "subagent": who may start it

    [compaction]
    auto = true                               # summarize when the context window gets full ...
    threshold = 0.8                           # ... which is when this share of it is used
    context_limit = 32768                     # tokens, of models whose window is not known

    [limits]                                  # of one turn; it is ended when one is reached
    steps = 200                               # requests to the model
    tokens = 2000000                          # of all of them together; left out: any number
    cost = 5.0                                # US dollars; left out: any

    [limits.container]                        # of a session's container; it may ask for less
    memory = "4 GB"                           # of all processes; the heaviest is killed
    process_memory = "4 GB"                   # of one process; or "unlimited"
    processes = 512                           # processes and threads
    background = 64                           # processes a finished command may leave behind
    file_size = "2 GB"                        # one file
    disk = "5 GB"                             # all files of the session
    shared_memory = "256 MB"                  # /dev/shm
    open_files = 4096                         # of one process
    cpu_seconds = "unlimited"                 # processor time of one process
    output = "8 MB"                           # kept of each output stream of a command
    timeout = 120                             # seconds of a command that asks for nothing else
    longest_timeout = 86400                   # seconds a command may ask for
    idle_minutes = 60                         # without a command, then it rests; or "unlimited"
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from agent_magics.sandbox import Limits, ProviderOptions

from ._agent_config import AgentConfigError, agent_profile, permission_rules
from ._agents import BUILT_IN, AgentProfile
from ._config_sandbox import read_sandbox
from ._config_tables import CommandConfig, McpConfig, read_commands, read_mcp
from ._config_timeouts import TimeoutsConfig, read_timeouts
from ._container_limits import DEFAULT_IDLE, IDLE, ContainerLimitError, read_idle, read_limits
from ._network_config import NetworkConfig, read_network
from ._policy import Rule
from ._snapshots import SnapshotLimits

__all__ = [
    "CompactionConfig",
    "ConfigError",
    "EngineConfig",
    "LimitsConfig",
    "ProviderConfig",
    "ProviderKind",
    "Reader",
    "TimeoutsConfig",
    "config_path",
    "is_http_url",
]

ProviderKind = Literal["openai", "anthropic"]

_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_MEGABYTES = 1 << 20
_RESERVED_PROVIDERS = ("demo", "local")


class ConfigError(Exception):
    """The configuration can't be used; the message names the file and the key."""


@dataclass(frozen=True)
class ProviderConfig:
    """A model provider of the configuration file."""

    kind: ProviderKind = "openai"
    base_url: str | None = None
    api_key_env: str | None = None
    models: tuple[str, ...] = ()
    timeouts: TimeoutsConfig | None = None
    """None: those of all providers."""


@dataclass(frozen=True)
class CompactionConfig:
    """
    When a turn makes room in the model's context window by a summary.

    `threshold` is the share of the window from which on it is full. `context_limit` (tokens)
    stands in for windows that are not public; None: what the model's server says of them, and
    else they are full when a request is refused.
    """

    auto: bool = True
    threshold: float = 0.8
    context_limit: int | None = None


@dataclass(frozen=True)
class LimitsConfig:
    """
    What one turn may use: requests to the model, tokens, US dollars; None is any amount.

    With a `cost` there are no turns with models whose price is not known.

    `source` is where the user can change it, for messages.
    """

    steps: int | None = 200
    tokens: int | None = None
    cost: float | None = None
    source: str = field(default="the configuration file", compare=False)


@dataclass(frozen=True)
class EngineConfig:
    """What the engine runs with. `rules` stand after the default rules and win over them."""

    model: str | None = None
    sandbox: str = "auto"
    containers: ProviderOptions = field(default_factory=ProviderOptions)
    providers: Mapping[str, ProviderConfig] = field(default_factory=lambda: MappingProxyType({}))
    rules: tuple[Rule, ...] = ()
    commands: Mapping[str, CommandConfig] = field(default_factory=lambda: MappingProxyType({}))
    mcp: Mapping[str, McpConfig] = field(default_factory=lambda: MappingProxyType({}))
    agents: Mapping[str, AgentProfile] = field(default_factory=lambda: MappingProxyType({}))
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)
    compaction: CompactionConfig = CompactionConfig()
    limits: LimitsConfig = LimitsConfig()
    container_limits: Limits = field(default_factory=Limits)
    idle: float | None = DEFAULT_IDLE
    """Seconds without a command after which a container is stopped; None: never."""
    snapshot: SnapshotLimits = field(default_factory=SnapshotLimits)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str]) -> EngineConfig:
        """
        Read the configuration file and let the environment win over it.

        With `path` None the file is the one `AGENT_MAGICS_CONFIG` names, else
        `agent-magics/config.toml` in the user's configuration directory, which may be missing.
        Raises `ConfigError` for a named file that is missing, for bad TOML, unknown keys and
        values of the wrong kind.
        """
        source, required = config_path(path, environ)
        data = _read(source, required)
        reader = Reader(source)
        known = (
            "model",
            "sandbox",
            "providers",
            "permission",
            "commands",
            "mcp",
            "agents",
            "compaction",
            "limits",
            "snapshot",
            "network",
            "timeouts",
        )
        reader.only(data, "", known)
        model = environ.get("AGENT_MAGICS_MODEL", "").strip() or reader.text(data, "model")
        sandbox, containers = read_sandbox(reader, data, environ)
        container_limits, idle = reader.container(data)
        return cls(
            model=model,
            sandbox=sandbox,
            containers=containers,
            providers=MappingProxyType(reader.providers(data)),
            rules=tuple(reader.rules(data)),
            commands=MappingProxyType(read_commands(reader, data)),
            mcp=MappingProxyType(read_mcp(reader, data)),
            agents=MappingProxyType(reader.agents(data)),
            timeouts=read_timeouts(reader, data),
            compaction=reader.compaction(data),
            limits=reader.limits(data),
            container_limits=container_limits,
            idle=idle,
            snapshot=reader.snapshot(data),
            network=read_network(reader, data),
        )


def config_path(path: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The configuration file and whether it must exist (because somebody named it)."""
    if path is not None:
        return path, True
    if named := environ.get("AGENT_MAGICS_CONFIG", "").strip():
        return Path(named).expanduser(), True
    base = environ.get("XDG_CONFIG_HOME", "").strip()
    directory = Path(base) if base else Path(environ.get("HOME") or Path.home()) / ".config"
    return directory / "agent-magics" / "config.toml", False


def _read(path: Path, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: this configuration file does not exist.") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error


def is_http_url(url: str) -> bool:
    """Whether `url` is an http:// or https:// URL with a host and, if any, a possible port."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@dataclass(frozen=True)
class Reader:
    """Takes values out of the parsed file and complains with the full name of the key."""

    source: Path

    def where(self, key: str) -> str:
        return f"{self.source}: {key}"

    def error(self, key: str, complaint: str) -> ConfigError:
        """The complaint about a key, to be raised."""
        return ConfigError(f"{self.where(key)}: {complaint}")

    def only(self, table: Mapping[str, Any], prefix: str, known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                raise ConfigError(
                    f"{self.where(prefix + key)}: unknown key; known are {', '.join(known)}."
                )

    def table(self, value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where(key)}: must be a table.")
        return value

    def text(self, table: Mapping[str, Any], key: str, prefix: str = "") -> str | None:
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self.where(prefix + key)}: must be a text that is not empty.")
        return value.strip()

    def providers(self, data: Mapping[str, Any]) -> dict[str, ProviderConfig]:
        tables = self.table(data.get("providers", {}), "providers")
        general = read_timeouts(self, data)
        found = {}
        for name, value in tables.items():
            key = f"providers.{name}"
            if not _PROVIDER_NAME.fullmatch(name):
                raise ConfigError(f"{self.where(key)}: use letters, digits, '-', '_' and '.'.")
            if name in _RESERVED_PROVIDERS:
                raise ConfigError(f"{self.where(key)}: this name is built in; take another.")
            found[name] = self.provider(name, self.table(value, key), key + ".", general)
        return found

    def provider(
        self, name: str, table: Mapping[str, Any], prefix: str, general: TimeoutsConfig
    ) -> ProviderConfig:
        if "api_key" in table:
            raise ConfigError(
                f"{self.where(prefix + 'api_key')}: keys don't belong in this file; put the name "
                'of an environment variable here: api_key_env = "NAME".'
            )
        self.only(table, prefix, ("kind", "base_url", "api_key_env", "models", "timeouts"))
        default = "anthropic" if name == "anthropic" else "openai"
        kind = self.text(table, "kind", prefix) or default
        if kind not in ("openai", "anthropic"):
            raise ConfigError(f'{self.where(prefix + "kind")}: must be "openai" or "anthropic".')
        return ProviderConfig(
            kind=cast(ProviderKind, kind),
            base_url=self.url(table, "base_url", prefix),
            api_key_env=self.variable(table, "api_key_env", prefix),
            models=self.texts(table, "models", prefix),
            timeouts=read_timeouts(self, table, prefix, general) if "timeouts" in table else None,
        )

    def url(self, table: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = self.text(table, key, prefix)
        if value is None:
            return None
        if not is_http_url(value):
            raise ConfigError(f"{self.where(prefix + key)}: must be an http:// or https:// URL.")
        return value.rstrip("/")

    def variable(self, table: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = self.text(table, key, prefix)
        if value is not None and not _VARIABLE_NAME.fullmatch(value):
            raise ConfigError(
                f"{self.where(prefix + key)}: must be the name of an environment variable, "
                "never a key itself."
            )
        return value

    def texts(self, table: Mapping[str, Any], key: str, prefix: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise ConfigError(f"{self.where(prefix + key)}: must be a list of texts.")
        return tuple(value)

    def snapshot(self, data: Mapping[str, Any]) -> SnapshotLimits:
        table = self.table(data.get("snapshot", {}), "snapshot")
        self.only(table, "snapshot.", ("largest_file", "total"))
        limits = SnapshotLimits()
        return SnapshotLimits(
            self.megabytes(table, "largest_file", limits.file),
            self.megabytes(table, "total", limits.total),
        )

    def megabytes(self, table: Mapping[str, Any], key: str, default: int) -> int:
        value = table.get(key)
        if value is None:
            return default
        if type(value) is not int or not 0 <= value <= _MOST_MEGABYTES:
            raise ConfigError(
                f"{self.where('snapshot.' + key)}: must be a number of megabytes, "
                f"at most {_MOST_MEGABYTES}."
            )
        return value << 20

    def rules(self, data: Mapping[str, Any]) -> list[Rule]:
        try:
            return permission_rules(
                self.table(data.get("permission", {}), "permission"), "permission"
            )
        except AgentConfigError as error:
            raise ConfigError(f"{self.where(error.key)}: {error.complaint}.") from error

    def agents(self, data: Mapping[str, Any]) -> dict[str, AgentProfile]:
        found = {}
        for name, value in self.table(data.get("agents", {}), "agents").items():
            key = f"agents.{name}"
            try:
                found[name] = agent_profile(name, self.table(value, key), BUILT_IN.get(name))
            except AgentConfigError as error:
                raise ConfigError(
                    f"{self.where(f'{key}.{error.key}')}: {error.complaint}."
                ) from error
        return found

    def compaction(self, data: Mapping[str, Any]) -> CompactionConfig:
        table, prefix = self.table(data.get("compaction", {}), "compaction"), "compaction."
        self.only(table, prefix, ("auto", "threshold", "context_limit"))
        auto = table.get("auto", True)
        if not isinstance(auto, bool):
            raise ConfigError(f"{self.where(prefix + 'auto')}: must be true or false.")
        threshold = self.number(table, "threshold", prefix, most=1)
        return CompactionConfig(
            auto=auto,
            threshold=CompactionConfig.threshold if threshold is None else threshold,
            context_limit=self.count(table, "context_limit", prefix),
        )

    def limits(self, data: Mapping[str, Any]) -> LimitsConfig:
        table, prefix = self.table(data.get("limits", {}), "limits"), "limits."
        self.only(table, prefix, ("steps", "tokens", "cost", "container"))
        steps = self.count(table, "steps", prefix)
        return LimitsConfig(
            steps=LimitsConfig.steps if steps is None else steps,
            tokens=self.count(table, "tokens", prefix),
            cost=self.number(table, "cost", prefix),
            source=str(self.source),
        )

    def container(self, data: Mapping[str, Any]) -> tuple[Limits, float | None]:
        """`[limits.container]`: the limits, and `EngineConfig.idle`."""
        key = "limits.container"
        table = self.table(self.table(data.get("limits", {}), "limits").get("container", {}), key)
        try:
            limits = {name: value for name, value in table.items() if name != IDLE}
            return read_limits(limits), read_idle(table.get(IDLE))
        except ContainerLimitError as error:
            raise self.error(f"{key}.{error.key}", error.complaint) from error

    def number(
        self, table: Mapping[str, Any], key: str, prefix: str, most: float = math.inf
    ) -> float | None:
        value = table.get(key)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= most:
            bound = "" if most == math.inf else f" and at most {most:g}"
            raise ConfigError(f"{self.where(prefix + key)}: must be a number above 0{bound}.")
        return float(value)

    def count(self, table: Mapping[str, Any], key: str, prefix: str) -> int | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{self.where(prefix + key)}: must be a whole number above 0.")
        return value
