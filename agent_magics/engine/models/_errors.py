"""
Why a model can't be used.

    ModelError
    ├── ModelNotFound    no such provider or model; lists what there is
    ├── ProviderAuth     the key is missing; names the environment variable
    └── ProviderUnusable the environment's proxy or certificates can't be used
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["ModelError", "ModelNotFound", "ProviderAuth", "ProviderUnusable"]


class ModelError(Exception):
    """
    Root of this package's errors. The message is a sentence for people and never holds a key.

    `wire_name` is the error's name on the wire, `data` what stands beside the message there.
    """

    wire_name: ClassVar[str] = "UnknownError"

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class ModelNotFound(ModelError):
    """No such provider or model."""

    wire_name = "ModelNotFoundError"


class ProviderAuth(ModelError):
    """The provider's key is missing or can't be a key."""

    wire_name = "ProviderAuthError"


class ProviderUnusable(ModelError):
    """The environment of the engine says to reach it in a way that is impossible."""

    wire_name = "APIError"
