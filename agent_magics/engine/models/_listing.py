"""Providers and models in opencode's shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["provider_json"]


def provider_json(
    provider_id: str, name: str, source: str, variables: list[str], models: Iterable[str]
) -> dict[str, Any]:
    """
    One entry of `GET /config/providers`. `variables` are the names of key variables.

    Opencode's clients expect numbers for limits and prices; 0 means unknown here.
    """
    return {
        "id": provider_id,
        "name": name,
        "source": source,
        "env": variables,
        "options": {},
        "models": {model: _model_json(provider_id, model) for model in models},
    }


def _model_json(provider_id: str, model_id: str) -> dict[str, Any]:
    text = {"text": True, "audio": False, "image": False, "video": False, "pdf": False}
    return {
        "id": model_id,
        "providerID": provider_id,
        "api": {"id": model_id, "url": "", "npm": ""},
        "name": model_id,
        "family": "",
        "capabilities": {
            "temperature": True,
            "reasoning": False,
            "attachment": True,
            "toolcall": True,
            "input": {**text, "image": provider_id not in ("demo", "local")},
            "output": text,
            "interleaved": False,
        },
        "cost": {"input": 0, "output": 0, "cache": {"read": 0, "write": 0}},
        "limit": {"context": 0, "output": 0},
        "status": "active",
        "options": {},
        "headers": {},
        "release_date": "",
    }
