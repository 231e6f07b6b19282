"""Names of models to model objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent_magics.wire import MODEL_ENVIRON

from .._config import EngineConfig, is_http_url
from ._catalog import BUILTIN, ProviderSpec, from_config
from ._clients import Access, ClientCache
from ._errors import ModelNotFound, ProviderAuth
from ._listing import provider_json
from ._local import LocalModels
from ._windows import Window, WindowBook
from .demo import GuideModel

if TYPE_CHECKING:
    from pydantic_ai.models import Model

__all__ = ["DEMO_MODEL", "ModelRegistry", "ResolvedModel"]

DEMO_MODEL = "demo/guide"
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class ResolvedModel:
    """
    A model that is ready to be used.

    `window` is its context window. `settings` go with every request.
    """

    name: str
    provider_id: str
    model_id: str
    model: Model
    window: Window
    settings: dict[str, Any] | None = None


@dataclass
class _Shared:
    """What a registry and those made from it by `with_environ` have in common."""

    clients: ClientCache
    local: LocalModels
    demo: GuideModel
    windows: WindowBook


class ModelRegistry:
    """
    Finds models by their names, `provider/model-id`, where the id may hold slashes.

    Keys and addresses come from `environ`, from what `with_environ` adds and from variables that
    the configuration names. They stay in here: nothing that this class returns shows them.
    """

    def __init__(self, config: EngineConfig, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = dict(environ)
        self._caller: dict[str, str] = {}
        self._specs = _specs(config)
        self._shared = _Shared(
            ClientCache(), LocalModels(), GuideModel.from_environ(environ), WindowBook()
        )

    def with_environ(self, extra: Mapping[str, str]) -> ModelRegistry:
        """
        A registry for one turn, where the caller's variables win. It shares all connections.

        Only names in `wire.MODEL_ENVIRON` and key variables of the configuration are taken. For
        a provider that the caller gives a key or an address, none of the engine's own are used,
        so that the engine's key never goes to an address that a caller chose.
        """
        names = MODEL_ENVIRON | {name for spec in self._specs for name in spec.key_variables}
        registry = ModelRegistry.__new__(ModelRegistry)
        registry._config, registry._environ = self._config, self._environ
        registry._specs, registry._shared = self._specs, self._shared
        registry._caller = {k: v for k, v in extra.items() if k in names and v.strip()}
        return registry

    async def aclose(self) -> None:
        """Close all connections and stop the local model's server, if it runs."""
        await self._shared.windows.aclose()
        await self._shared.clients.aclose()
        await self._shared.local.aclose()

    def default(self) -> str:
        """
        The model for sessions that name none.

        In this order: `AGENT_MAGICS_MODEL`, `model` in the configuration, the first model of the
        first provider that has a key (those of the configuration first, then the catalog's
        order), else the built-in demo model.
        """
        chosen = self._caller.get("AGENT_MAGICS_MODEL", "").strip() or self._config.model
        if chosen:
            return chosen
        for spec in self._specs:
            if spec.models and not spec.key_optional and self._available(spec):
                return f"{spec.id}/{spec.models[0]}"
        return DEMO_MODEL

    def resolve(self, name: str | None) -> ResolvedModel:
        """
        The model called `name`; None is the default model, a provider alone is its first model.

        Raises `ModelNotFound` and `ProviderAuth`, before anything is sent anywhere.
        """
        wanted = (name or self.default()).strip()
        provider_id, _, model_id = wanted.partition("/")
        if provider_id == "demo":
            return self._demo(model_id)
        if provider_id == "local":
            return self._local(model_id)
        spec = next((spec for spec in self._specs if spec.id == provider_id), None)
        if spec is None:
            raise ModelNotFound(self._unknown(wanted), providerID=provider_id, modelID=model_id)
        model_id = model_id or next(iter(spec.models), "")
        if not model_id or (spec.fixed_models and model_id not in spec.models):
            listed = ", ".join(f"{spec.id}/{model}" for model in spec.models)
            known = f" It has: {listed}." if listed else f" Write {spec.id}/<model id>."
            message = f"{spec.name} has no model {model_id!r}." if model_id else "Which model?"
            raise ModelNotFound(message + known, providerID=spec.id, modelID=model_id)
        access, clients = self._access(spec), self._shared.clients
        model = clients.model(access, model_id)
        size = model.profile.get("context_window")
        return ResolvedModel(
            name=f"{spec.id}/{model_id}",
            provider_id=spec.id,
            model_id=model_id,
            model=model,
            window=self._shared.windows.of(access, model_id, size, clients.asker(access)),
        )

    def providers(self) -> list[dict[str, Any]]:
        """The providers that can be used now, in opencode's shape and without keys."""
        found = []
        for spec in self._specs:
            if self._available(spec):
                source = "config" if spec.source == "config" else "env"
                variables = list(spec.key_variables)
                found.append(provider_json(spec.id, spec.name, source, variables, spec.models))
        if self._shared.local.installed:
            models = LocalModels.models
            found.append(provider_json("local", "Local model", "custom", [], models))
        found.append(provider_json("demo", "Built-in demo", "custom", [], ("guide",)))
        return found

    # Parts of resolve

    def _demo(self, model_id: str) -> ResolvedModel:
        if model_id not in ("", "guide"):
            message = f"The demo provider has no model {model_id!r}. It has: {DEMO_MODEL}."
            raise ModelNotFound(message, providerID="demo", modelID=model_id)
        return ResolvedModel(DEMO_MODEL, "demo", "guide", self._shared.demo, Window())

    def _local(self, model_id: str) -> ResolvedModel:
        model_id = model_id or LocalModels.models[0]
        model = self._shared.local.model(model_id)
        window = Window(model.profile.get("context_window"))
        return ResolvedModel(f"local/{model_id}", "local", model_id, model, window)

    def _unknown(self, wanted: str) -> str:
        known = ", ".join([*(spec.id for spec in self._specs), "local", "demo"])
        if "/" not in wanted:
            return (
                f"{wanted!r} is not a model. Write provider/model-id, for instance "
                f"openai/{wanted}. Providers: {known}."
            )
        return f"There is no provider {wanted.partition('/')[0]!r}. Providers: {known}."

    # Keys and addresses

    def _access(self, spec: ProviderSpec) -> Access:
        key, url = self._credentials(spec)
        if not key and spec.key_variables and not spec.key_optional:
            names = " or ".join(spec.key_variables)
            raise ProviderAuth(
                f"{spec.name} needs a key: set {names} in the environment of the notebook.",
                providerID=spec.id,
            )
        if key and not _KEY.fullmatch(key):
            raise ProviderAuth(
                f"The value of {' or '.join(spec.key_variables)} can't be a key: it holds blanks "
                "or characters that are not ASCII.",
                providerID=spec.id,
            )
        if not is_http_url(url):
            names = " or ".join(spec.url_variables) or f"providers.{spec.id}.base_url"
            raise ModelNotFound(
                f"{spec.name} has no usable address: set {names} to an http:// or https:// URL.",
                providerID=spec.id,
            )
        configured = self._config.providers.get(spec.id)
        timeouts = configured.timeouts if configured else None
        return Access(spec.id, spec.family, url, key, timeouts or self._config.timeouts)

    def _credentials(self, spec: ProviderSpec) -> tuple[str, str]:
        """Key and address, both from the caller or both from the engine's environment."""
        key = url = ""
        for environ in self._layers():
            key, url = _first(environ, spec.key_variables), _first(environ, spec.url_variables)
            if key or url:
                break
        if spec.id == "ollama":
            url = _ollama_url(url)
        return key, url or spec.base_url

    def _layers(self) -> Iterator[Mapping[str, str]]:
        yield self._caller
        yield self._environ

    def _available(self, spec: ProviderSpec) -> bool:
        if spec.key_optional:
            return any(
                _first(e, (*spec.key_variables, *spec.url_variables)) for e in self._layers()
            )
        return not spec.key_variables or bool(self._credentials(spec)[0])


def _specs(config: EngineConfig) -> tuple[ProviderSpec, ...]:
    configured = {name: from_config(name, table) for name, table in config.providers.items()}
    own = [spec for name, spec in configured.items() if name not in {b.id for b in BUILTIN}]
    return (*own, *(configured.get(spec.id, spec) for spec in BUILTIN))


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := environ.get(name, "").strip())), "")


def _ollama_url(value: str) -> str:
    """The API's address of what OLLAMA_HOST ("0.0.0.0:11434") or OLLAMA_BASE_URL holds."""
    if not value:
        return ""
    parts = urlsplit(value if "://" in value else f"http://{value}")
    host = parts.hostname or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    default_port = 443 if parts.scheme == "https" else 11434
    try:
        port = parts.port or default_port
    except ValueError:
        return value
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{host}:{port}{path}"
