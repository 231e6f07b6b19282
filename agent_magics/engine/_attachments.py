"""What a prompt is made of: its text and its files, checked before the prompt is accepted."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    UserPromptPart,
)

from ._body import Body
from ._errors import BadRequest, NotFound

if TYPE_CHECKING:
    from .models import ResolvedModel

__all__ = [
    "PromptPart",
    "parse_parts",
    "prompt_content",
    "refuse_what_it_cannot_take",
    "without_binaries",
]

PromptPart = dict[str, Any]
"""A user's text or file part without its ids."""

_SENT_AS_IS = frozenset({"application/pdf", "image/gif", "image/jpeg", "image/png", "image/webp"})
_TEXT_MIMES = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/toml",
        "application/x-ipynb+json",
        "application/x-ndjson",
        "application/x-python",
        "application/x-sh",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
        "image/svg+xml",
    }
)


def parse_parts(items: Sequence[Any]) -> list[PromptPart]:
    """The parts of a request's body. Raises BadRequest, also for a prompt without content."""
    parts = [_parse_part(Body(item, f"parts[{i}]")) for i, item in enumerate(items)]
    if not any(p["type"] == "file" or p["text"].strip() for p in parts):
        raise BadRequest("The prompt is empty.")
    return parts


def _parse_part(body: Body) -> PromptPart:
    kind = body.text("type")
    if kind == "text":
        part: PromptPart = {"type": "text", "text": body.text("text")}
        if body.flag("synthetic"):
            part["synthetic"] = True
        return part
    if kind != "file":
        raise body.error("type", "must be 'text' or 'file'")
    mime = body.text("mime").lower().split(";")[0].strip()
    if not (_is_text(mime) or mime in _SENT_AS_IS):
        raise BadRequest(
            f"Models can't take a file of type {mime!r}. Put it into the workspace and name "
            "its path in the prompt instead.",
            mime=mime,
        )
    part = {"type": "file", "mime": mime, "url": body.text("url")}
    if filename := body.optional_text("filename"):
        part["filename"] = filename
    if part["url"].startswith("data:"):
        _decode(part["url"])
    elif not part["url"].startswith("file:///"):
        raise body.error("url", "must be a data: URL or file:///path of a file in the container")
    return part


def refuse_what_it_cannot_take(parts: Sequence[PromptPart], model: ResolvedModel) -> None:
    """Raises BadRequest for a file of a kind that the model is known not to take."""
    profile = model.model.profile
    for part in parts:
        if part["type"] != "file" or _is_text(part["mime"]):
            continue
        is_image = part["mime"].startswith("image/")
        key = "supports_image_input" if is_image else "supports_document_input"
        if not profile.get(key, True):
            raise BadRequest(
                f"The model {model.name} takes no {'images' if is_image else 'documents'}. Choose "
                "another model, or put the file into the workspace and name its path in the "
                "prompt instead.",
                mime=part["mime"],
            )


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in _TEXT_MIMES


def _decode(url: str) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise BadRequest("A data: URL has no comma.")
    if not head.endswith(";base64"):
        return unquote_to_bytes(payload)
    try:
        return base64.b64decode(unquote(payload), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A data: URL is not valid base64.") from None


def prompt_content(
    parts: Sequence[PromptPart], files: Mapping[str, bytes]
) -> str | list[str | BinaryContent]:
    """
    What the model gets. A prompt of one text is passed on as it is.

    `files` has the bytes of every `file://` URL among the parts.
    """
    content: list[str | BinaryContent] = []
    for part in parts:
        if part["type"] == "text":
            content.append(part["text"])
            continue
        url = part["url"]
        data = _decode(url) if url.startswith("data:") else files[url]
        if _is_text(part["mime"]):
            name = part.get("filename") or (url if url.startswith("file:") else "attachment")
            text = data.decode(errors="replace")
            content.append(f'<file name="{name}">\n{text}\n</file>')
        else:
            content.append(BinaryContent(data=data, media_type=part["mime"]))
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return content


def workspace_urls(parts: Sequence[PromptPart]) -> dict[str, str]:
    """`file://` URLs among the parts and the paths in the container that they mean."""
    return {
        p["url"]: unquote(p["url"].removeprefix("file://"))
        for p in parts
        if p["type"] == "file" and p["url"].startswith("file://")
    }


def missing_file(path: str) -> NotFound:
    return NotFound(f"There is no file {path} in the session's container.", path=path)


def without_binaries(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """
    The messages with notes in place of attachments.

    For turns that the provider refused: an attachment it can't take would otherwise make every
    later turn of the session fail, too.
    """
    return [
        replace(message, parts=[_without_binary(part) for part in message.parts])
        if isinstance(message, ModelRequest)
        else message
        for message in messages
    ]


def _without_binary(part: ModelRequestPart) -> ModelRequestPart:
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return part
    content = [
        f"[an attachment of type {item.media_type} that the model did not accept]"
        if isinstance(item, BinaryContent)
        else item
        for item in part.content
    ]
    return replace(part, content=content)
