"""What `send()` takes, and the JSON parts it becomes."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._errors import BadRequest

__all__ = ["FileInput", "PromptInput", "TextInput", "model_reference", "prompt_parts"]


_FORMS: dict[str, tuple[set[str], set[str]]] = {
    "text": ({"text"}, set()),
    "file": ({"url", "mime"}, {"filename"}),
}
"""Type of a part -> the keys it must have, and those it may have."""


@dataclass(frozen=True, slots=True)
class TextInput:
    text: str


@dataclass(frozen=True, slots=True)
class FileInput:
    """
    A file that goes along with a prompt.

    `source` is a path on this machine, the bytes themselves, or a `data:` URL. `mime` is guessed
    from the name and the content when not given.
    """

    source: str | Path | bytes
    mime: str | None = None
    filename: str | None = None


PromptPart = str | TextInput | FileInput | Mapping[str, Any]
"""A mapping is a part as JSON has it: `{"type": "file", "url": "data:…", "mime": "image/png"}`."""

PromptInput = str | Sequence[PromptPart] | Mapping[str, Any]
"""A text, parts, or `{"parts": [...]}`."""


def prompt_parts(prompt: PromptInput) -> list[dict[str, Any]]:
    """
    The `parts` of a prompt's JSON. Text is passed on unchanged.

    Raises `BadRequest` for an empty prompt and for mappings of another form, `TypeError` for
    something that is no input, and `OSError` for a file that cannot be read.
    """
    if isinstance(prompt, Mapping):
        if set(prompt) != {"parts"}:
            raise BadRequest('A prompt that is a mapping has the form {"parts": [...]}.')
        prompt = prompt["parts"]
    items = [prompt] if isinstance(prompt, str) else list(prompt)
    parts = [_part(item) for item in items]
    if not any(part["type"] == "file" or part["text"].strip() for part in parts):
        raise BadRequest("The prompt is empty.")
    return parts


def model_reference(name: str, *, key: str) -> dict[str, str]:
    """
    `provider/model-id` as JSON. `key` names the model id's field, which differs between paths.

    Model ids may contain slashes: the first one separates.
    """
    provider, slash, model = name.partition("/")
    if not (provider and slash and model):
        raise BadRequest(f"The model {name!r} is not of the form provider/model-id.")
    return {"providerID": provider, key: model}


def network_choice(network: bool | Sequence[str]) -> bool | list[str]:
    """As the wire has it; one host may be given as it is."""
    if isinstance(network, bool):
        return network
    return [network] if isinstance(network, str) else list(network)


def _part(item: PromptPart) -> dict[str, Any]:
    if isinstance(item, str):
        return {"type": "text", "text": item}
    if isinstance(item, TextInput):
        return {"type": "text", "text": item.text}
    if isinstance(item, FileInput):
        return _file_part(item)
    if isinstance(item, Mapping):
        return _json_part(item)
    raise TypeError(f"a prompt is made of str, TextInput and FileInput, not {type(item).__name__}")


def _json_part(item: Mapping[str, Any]) -> dict[str, Any]:
    """A part that is JSON already. Its `url` is never a path on this machine."""
    needed, optional = _FORMS.get(str(item.get("type")), (set(), set()))
    named = {"type", *needed}
    if not needed or not named <= set(item) <= named | optional:
        raise BadRequest(
            'A part is {"type": "text", "text"} or {"type": "file", "url", "mime", "filename"?}.'
        )
    if not all(isinstance(value, str) for value in item.values()):
        raise BadRequest("The values of a part are texts.")
    return dict(item)


def _file_part(item: FileInput) -> dict[str, Any]:
    source, filename = item.source, item.filename
    if isinstance(source, str) and source.startswith("data:"):
        mime = item.mime or source[5:].partition(",")[0].partition(";")[0] or "text/plain"
        url = source
    else:
        if isinstance(source, bytes):
            data = source
        else:
            path = Path(source)
            data = path.read_bytes()
            filename = filename or path.name
        mime = item.mime or _guess_mime(filename, data)
        url = f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
    part = {"type": "file", "mime": mime, "url": url}
    if filename:
        part["filename"] = filename
    return part


def _guess_mime(filename: str | None, data: bytes) -> str:
    guessed = mimetypes.guess_type(filename or "")[0]
    if guessed:
        return guessed
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"
