"""How the scripted model server puts a scripted turn into OpenAI's and Anthropic's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Api = Literal["openai", "anthropic"]

_STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


@dataclass(frozen=True)
class Send:
    """Bytes to send after `delay` seconds."""

    data: bytes
    delay: float = 0.0


@dataclass(frozen=True)
class Pause:
    """Nothing happens for `delay` seconds."""

    delay: float


@dataclass(frozen=True)
class Cut:
    """The connection breaks (`abort`), or the body ends early."""

    delay: float
    abort: bool


Action = Send | Pause | Cut


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pieces(text: Any, size: int) -> list[str]:
    """The deltas of a scripted text: pieces of `size`, or {"repeat": text, "n": times}."""
    if isinstance(text, dict):
        return [str(text["repeat"])] * int(text["n"])
    text = str(text)
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def arguments(tool: dict[str, Any]) -> str:
    """A tool call's arguments as text; a script may give broken JSON as a text."""
    args = tool.get("args", {})
    return args if isinstance(args, str) else dumps(args)


def usage(turn: dict[str, Any]) -> dict[str, int]:
    counts = {"input": 10, "output": 5, "reasoning": 0, "cache_read": 0, "cache_write": 0}
    return {**counts, **turn.get("usage", {})}


def finish(turn: dict[str, Any], api: Api) -> str:
    tools = any("tool" in step for step in turn.get("do", ()))
    reason = str(turn.get("finish") or ("tool_calls" if tools else "stop"))
    return reason if api == "openai" else _STOP_REASONS.get(reason, reason)


def openai_usage(turn: dict[str, Any]) -> dict[str, Any]:
    counts = usage(turn)
    return {
        "prompt_tokens": counts["input"],
        "completion_tokens": counts["output"],
        "total_tokens": counts["input"] + counts["output"],
        "prompt_tokens_details": {"cached_tokens": counts["cache_read"]},
        "completion_tokens_details": {"reasoning_tokens": counts["reasoning"]},
    }


def anthropic_usage(turn: dict[str, Any], output: int) -> dict[str, int]:
    counts = usage(turn)
    return {
        "input_tokens": counts["input"],
        "output_tokens": output,
        "cache_read_input_tokens": counts["cache_read"],
        "cache_creation_input_tokens": counts["cache_write"],
    }


def error_body(api: Api, status: int, message: str) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    error = {"message": message, "type": kinds.get(status, "api_error"), "code": status}
    return {"type": "error", "error": error} if api == "anthropic" else {"error": error}


def whole_reply(api: Api, model: str, turn: dict[str, Any], index: int) -> dict[str, Any]:
    """The reply to a request that does not stream."""
    steps = turn.get("do", ())
    text = "".join("".join(pieces(s["text"], 1 << 30)) for s in steps if "text" in s)
    thought = "".join("".join(pieces(s["reasoning"], 1 << 30)) for s in steps if "reasoning" in s)
    tools = [step["tool"] for step in steps if "tool" in step]
    if api == "openai":
        return _openai_whole(model, turn, index, text, thought, tools)
    content: list[dict[str, Any]] = []
    if thought:
        content.append({"type": "thinking", "thinking": thought, "signature": "sig"})
    if text:
        content.append({"type": "text", "text": text})
    for i, tool in enumerate(tools):
        call_id = tool.get("id") or f"toolu_{index}_{i}"
        parsed = json.loads(arguments(tool))
        content.append({"type": "tool_use", "id": call_id, "name": tool["name"], "input": parsed})
    return {
        **_anthropic_message(model, turn, index),
        "content": content,
        "stop_reason": finish(turn, api),
        "usage": anthropic_usage(turn, usage(turn)["output"]),
    }


def _openai_whole(
    model: str,
    turn: dict[str, Any],
    index: int,
    text: str,
    thought: str,
    tools: list[dict[str, Any]],
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if thought:
        message["reasoning_content"] = thought
    if tools:
        message["tool_calls"] = [
            {
                "id": tool.get("id") or f"call_{index}_{i}",
                "type": "function",
                "function": {"name": tool["name"], "arguments": arguments(tool)},
            }
            for i, tool in enumerate(tools)
        ]
    choice = {"index": 0, "message": message, "finish_reason": finish(turn, "openai")}
    return {
        "id": f"chatcmpl-{index}",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [choice],
        "usage": openai_usage(turn),
    }


def _anthropic_message(model: str, turn: dict[str, Any], index: int) -> dict[str, Any]:
    return {
        "id": f"msg_{index}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": anthropic_usage(turn, 1),
    }


def stream_actions(
    api: Api, body: dict[str, Any], turn: dict[str, Any], index: int
) -> Iterator[Action]:
    """What happens on the connection, in order. The bytes are server-sent events."""
    model = str(body.get("model", ""))
    if api == "openai":
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        yield from _OpenAIStream(model, turn, index).actions(wants_usage)
    else:
        yield from _AnthropicStream(model, turn, index).actions()


def _interruption(step: dict[str, Any], delay: float) -> Action | None:
    if "wait" in step:
        return Pause(float(step["wait"]))
    if "disconnect" in step:
        return Cut(delay, abort=True)
    return None


@dataclass
class _OpenAIStream:
    model: str
    turn: dict[str, Any]
    index: int

    def event(self, value: Any, delay: float = 0.0) -> Send:
        text = value if isinstance(value, str) else dumps(value)
        return Send(f"data: {text}\n\n".encode(), delay)

    def chunk(self, delta: dict[str, Any], delay: float = 0.0, reason: str | None = None) -> Send:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self.event({**self.base, "choices": [choice]}, delay)

    @property
    def base(self) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.index}",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": self.model,
        }

    def actions(self, wants_usage: bool) -> Iterator[Action]:
        yield self.chunk({"role": "assistant", "content": ""})
        tools = 0
        for step in self.turn.get("do", ()):
            delay = float(step.get("delay", self.turn.get("delay", 0)))
            size = int(step.get("chunk", 8))
            if (interruption := _interruption(step, delay)) is not None:
                yield interruption
            elif "error_chunk" in step:
                yield self.event({"error": {"code": 500, **step["error_chunk"]}}, delay)
                yield Cut(0, abort=False)
            elif "text" in step:
                for piece in pieces(step["text"], size):
                    yield self.chunk({"content": piece}, delay)
            elif "reasoning" in step:
                for piece in pieces(step["reasoning"], size):
                    yield self.chunk({"reasoning_content": piece}, delay)
            elif "tool" in step:
                yield from self.tool(step["tool"], tools, size, delay)
                tools += 1
        yield self.chunk({}, reason=finish(self.turn, "openai"))
        if wants_usage:
            yield self.event({**self.base, "choices": [], "usage": openai_usage(self.turn)})
        yield self.event("[DONE]")

    def tool(self, tool: dict[str, Any], number: int, size: int, delay: float) -> Iterator[Action]:
        call_id = tool.get("id") or f"call_{self.index}_{number}"
        head = {"name": tool["name"], "arguments": ""}
        call = {"index": number, "id": call_id, "type": "function", "function": head}
        yield self.chunk({"tool_calls": [call]}, delay)
        for piece in pieces(arguments(tool), size):
            part = {"index": number, "function": {"arguments": piece}}
            yield self.chunk({"tool_calls": [part]}, delay)


@dataclass
class _AnthropicStream:
    model: str
    turn: dict[str, Any]
    index: int
    block: int = 0

    def event(self, value: dict[str, Any], delay: float = 0.0) -> Send:
        return Send(f"event: {value['type']}\ndata: {dumps(value)}\n\n".encode(), delay)

    def start(self, block: dict[str, Any]) -> Send:
        return self.event(
            {"type": "content_block_start", "index": self.block, "content_block": block}
        )

    def delta(self, delta: dict[str, Any], delay: float = 0.0) -> Send:
        value = {"type": "content_block_delta", "index": self.block, "delta": delta}
        return self.event(value, delay)

    def actions(self) -> Iterator[Action]:
        message = _anthropic_message(self.model, self.turn, self.index)
        yield self.event({"type": "message_start", "message": message})
        for step in self.turn.get("do", ()):
            delay = float(step.get("delay", self.turn.get("delay", 0)))
            if (interruption := _interruption(step, delay)) is not None:
                yield interruption
            elif "error_chunk" in step:
                error = {"type": "overloaded_error", **step["error_chunk"]}
                yield self.event({"type": "error", "error": error}, delay)
                yield Cut(0, abort=False)
            else:
                yield from self.content(step, delay, int(step.get("chunk", 8)))
                yield self.event({"type": "content_block_stop", "index": self.block})
                self.block += 1
        reason = {"stop_reason": finish(self.turn, "anthropic"), "stop_sequence": None}
        counts = {"output_tokens": usage(self.turn)["output"]}
        yield self.event({"type": "message_delta", "delta": reason, "usage": counts})
        yield self.event({"type": "message_stop"})

    def content(self, step: dict[str, Any], delay: float, size: int) -> Iterator[Action]:
        if "text" in step:
            yield self.start({"type": "text", "text": ""})
            for piece in pieces(step["text"], size):
                yield self.delta({"type": "text_delta", "text": piece}, delay)
        elif "reasoning" in step:
            yield self.start({"type": "thinking", "thinking": "", "signature": ""})
            for piece in pieces(step["reasoning"], size):
                yield self.delta({"type": "thinking_delta", "thinking": piece}, delay)
            yield self.delta({"type": "signature_delta", "signature": "sig"})
        else:
            tool = step["tool"]
            call_id = tool.get("id") or f"toolu_{self.index}_{self.block}"
            block = {"type": "tool_use", "id": call_id, "name": tool["name"], "input": {}}
            yield self.start(block)
            for piece in pieces(arguments(tool), size):
                yield self.delta({"type": "input_json_delta", "partial_json": piece}, delay)
