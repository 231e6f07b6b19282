"""What the client's objects look like as tables; the views themselves are in `widgets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...widgets import TODO_MARKS, Columns, Facts, Listing, clock, size_text, visible
from ...wire import spelled_name

if TYPE_CHECKING:
    from ...wire import (
        Artifact,
        Command,
        FileEntry,
        Message,
        PermissionRule,
        RevertPreview,
        RevertResult,
        SessionInfo,
        SessionMetrics,
        SkippedFile,
        Todo,
    )

__all__ = [
    "artifacts_table",
    "changes_table",
    "commands_table",
    "files_table",
    "messages_table",
    "metrics_facts",
    "models_table",
    "providers_of",
    "rules_table",
    "session_facts",
    "sessions_table",
    "todos_table",
]

_EXCERPT = 200


def session_facts(info: SessionInfo, not_copied: Sequence[SkippedFile] = ()) -> Facts:
    sandbox = info.sandbox if info.isolated else f"{info.sandbox} (NOT isolated)"
    pairs = [
        ("session", info.id),
        ("title", info.title),
        ("status", info.status + (", archived" if info.archived else "")),
        ("model", info.model or "the engine's default"),
        ("agent", info.agent or "build"),
        ("container", sandbox or "not started yet"),
        ("network", _network(info)),
        ("created", clock(info.time_created)),
        ("updated", clock(info.time_updated)),
    ]
    if not_copied:
        left = [f"{spelled_name(file.path)} ({file.reason})" for file in not_copied]
        pairs.append(("not copied", ", ".join(left)))
    return Facts(pairs, info)


def _network(info: SessionInfo) -> str:
    if info.network is None:
        return "none"
    return ", ".join(info.network) or "as the engine is configured"


def sessions_table(sessions: Sequence[SessionInfo], current: str, hidden: int) -> Listing[Any]:
    columns: Columns = {
        "": lambda s: "▸" if s.id == current else "",
        "id": lambda s: s.id,
        "title": lambda s: s.title,
        "status": lambda s: "archived" if s.archived else s.status,
        "model": lambda s: s.model,
        "container": lambda s: s.sandbox,
        "updated": lambda s: clock(s.time_updated),
    }
    caption = f"{hidden} archived ones are left out (--all shows them)" if hidden else ""
    empty = "There are no sessions." if not hidden else f"No sessions but {hidden} archived ones."
    return Listing(sessions, columns, caption=caption, empty=empty)


def todos_table(todos: Sequence[Todo]) -> Listing[Any]:
    columns: Columns = {
        "": lambda t: TODO_MARKS.get(t.status, "☐"),
        "step": lambda t: t.content,
        "status": lambda t: t.status.replace("_", " "),
        "priority": lambda t: t.priority,
    }
    return Listing(todos, columns, empty="The agent has made no plan in this session.")


def metrics_facts(metrics: SessionMetrics) -> Facts:
    tokens, cost = metrics.total_tokens, metrics.total_cost
    used, limit = metrics.context_used, metrics.context_limit
    tools = ", ".join(f"{name} x{count}" for name, count in sorted(metrics.tool_usage.items()))
    pairs = [
        ("messages", f"{metrics.messages}"),
        ("requests to the model", f"{metrics.steps}"),
        ("tool calls", f"{metrics.tool_calls}" + (f" ({tools})" if tools else "")),
        ("tokens", f"{tokens.input:,} in, {tokens.output:,} out"),
        ("cost", "unknown" if cost is None else f"${cost:.4f}"),
    ]
    if used is not None:
        share = f" of {limit:,} ({used / limit:.0%})" if limit else ""
        pairs.append(("context", f"{used:,}{share} tokens"))
    if metrics.children:
        pairs.append(("sub-agents", f"{len(metrics.children)}; tokens and cost are with theirs"))
    return Facts(pairs, metrics)


def messages_table(messages: Sequence[Message]) -> Listing[Any]:
    columns: Columns = {
        "id": lambda m: m.info.id,
        "from": lambda m: "summary" if m.info.summary else m.info.role,
        "text": _excerpt,
        "parts": lambda m: ", ".join(_parts(m)),
        "time": lambda m: clock(m.info.time_created),
    }
    return Listing(messages, columns, empty="There are no messages in this session yet.")


def _excerpt(message: Message) -> str:
    text = message.text or (message.info.error.message if message.info.error else "")
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _parts(message: Message) -> list[str]:
    counts: dict[str, int] = {}
    for part in message.parts:
        name = getattr(part, "tool", "") or part.type
        if name not in ("text", "step-start", "step-finish"):
            counts[name] = counts.get(name, 0) + 1
    return [f"{name} x{count}" if count > 1 else name for name, count in counts.items()]


def rules_table(rules: Sequence[PermissionRule]) -> Listing[Any]:
    columns: Columns = {
        "id": lambda r: r.id,
        "tool": lambda r: visible(r.permission),
        "pattern": lambda r: visible(r.pattern),
        "action": lambda r: r.action,
    }
    empty = "Nothing is always allowed in this session, beyond the engine's rules."
    return Listing(rules, columns, empty=empty)


def providers_of(listed: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The providers in what a server says of them, by their ids."""
    return {found["id"]: found for found in listed.get("providers") or listed.get("all") or ()}


def models_table(listed: Mapping[str, Any], chosen: str | None) -> Listing[Any]:
    defaults = listed.get("default") or {}
    found = [
        {
            "model": f"{id}/{model}",
            "provider": provider.get("name") or id,
            "default": defaults.get(id) == model,
        }
        for id, provider in providers_of(listed).items()
        for model in provider.get("models") or {}
    ]
    columns: Columns = {
        "": lambda m: "▸" if m["model"] == chosen else "",
        "model": lambda m: m["model"],
        "provider": lambda m: m["provider"],
        "first choice": lambda m: "yes" if m["default"] else "",
    }
    caption = f"this notebook uses {chosen or 'the default of the engine'}"
    if chosen and chosen not in [model["model"] for model in found]:
        caption += ", which its provider does not list"
    return Listing(found, columns, caption=caption, empty="No model can be used here.")


def changes_table(done: RevertPreview | RevertResult, *, preview: bool) -> Listing[Any]:
    verb = "would be" if preview else "were"
    caption = f"{done.messages} messages {verb} taken back"
    conflicts = getattr(done, "conflicts", ())
    if conflicts:
        names = ", ".join(conflicts)
        caption += f"; it would be refused, for somebody else has changed since: {names}"
    if done.skipped:
        left = ", ".join(f"{skipped.path} ({skipped.reason})" for skipped in done.skipped)
        caption += f"; left as they are: {left}"
    columns: Columns = {
        "file": lambda f: f.path,
        "what happens": lambda f: _UNDONE.get(f.status, f.status),
        "lines": lambda f: f"+{f.additions} -{f.deletions}",
    }
    empty = f"{caption}; no file changes."
    return Listing(done.files, columns, caption=caption, empty=empty)


_UNDONE = {"added": "comes back", "deleted": "is deleted", "modified": "gets its old content"}


def files_table(files: Sequence[FileEntry], path: str) -> Listing[Any]:
    columns: Columns = {
        "path": lambda f: spelled_name(f.path) + ("/" if f.kind == "directory" else ""),
        "size": lambda f: size_text(f.size) if f.kind == "file" else f.kind,
        "changed": lambda f: clock(f.mtime),
    }
    return Listing(files, columns, empty=f"{path} is empty.")


def artifacts_table(artifacts: Sequence[Artifact]) -> Listing[Any]:
    columns: Columns = {
        "key": lambda a: a.key,
        "type": lambda a: a.mime,
        "size": lambda a: size_text(a.size),
        "description": lambda a: a.description,
        "made": lambda a: clock(a.time_created),
    }
    return Listing(artifacts, columns, empty="There are no artifacts in this session.")


def commands_table(commands: Sequence[Command]) -> Listing[Any]:
    columns: Columns = {
        "command": lambda c: c.name,
        "arguments": lambda c: " ".join(c.arguments),
        "what it does": lambda c: c.description,
        "from": lambda c: c.origin,
    }
    return Listing(commands, columns, empty="There are no commands.")
