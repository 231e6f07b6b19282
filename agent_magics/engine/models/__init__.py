"""
Models: which there are, how to reach them, what they cost.

`ModelRegistry` turns names into pydantic-ai models. It imports a provider's SDK when one of its
models is first asked for, never before.
"""

from __future__ import annotations

from ._errors import ModelError, ModelNotFound, ProviderAuth
from ._price import is_priced, price
from ._registry import DEMO_MODEL, ModelRegistry, ResolvedModel
from ._reply_stream import BadEncoding, NotAStream, ReplyCut, Silence
from ._windows import Window

__all__ = [
    "DEMO_MODEL",
    "BadEncoding",
    "ModelError",
    "ModelNotFound",
    "ModelRegistry",
    "NotAStream",
    "ProviderAuth",
    "ReplyCut",
    "ResolvedModel",
    "Silence",
    "Window",
    "is_priced",
    "price",
]
