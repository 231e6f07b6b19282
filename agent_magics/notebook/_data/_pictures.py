"""Figures and pictures for the agent: as PNG; plotly's as data where no PNG can be made."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from typing import Any

__all__ = ["figure_facts", "is_plotly", "plotly_json", "png_of"]

_MOST_TRACES = 20


def png_of(value: Any) -> bytes | None:
    """A figure of matplotlib or seaborn, axes, or a picture of PIL, as PNG; None for others."""
    home = _home(value)
    buffer = io.BytesIO()
    if home == "PIL" and hasattr(value, "save"):
        picture = value if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else _in_rgb(value)
        picture.save(buffer, format="PNG")
        return buffer.getvalue()
    if is_plotly(value):
        return _plotly_png(value)
    figure = getattr(value, "figure", value)  # of axes
    if home in ("matplotlib", "seaborn") and hasattr(figure, "savefig"):
        figure.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()
    return None


def is_plotly(value: Any) -> bool:
    """Whether it is a figure of plotly."""
    return _home(value) == "plotly" and hasattr(value, "to_image") and hasattr(value, "to_json")


def plotly_json(figure: Any) -> str:
    """
    Traces and layout, with arrays as lists.

    Without the template, which says only how plotly looks by default.
    """
    content: dict[str, Any] = json.loads(figure.to_json(), object_hook=_as_list)
    content.get("layout", {}).pop("template", None)
    return json.dumps(content, ensure_ascii=False)


def figure_facts(text: str) -> str:
    """What a figure of `plotly_json` has, in a line for each of its traces."""
    content = json.loads(text)
    layout, traces = content.get("layout") or {}, content.get("data") or []
    kinds = Counter(str(trace.get("type", "scatter")) for trace in traces)
    counted = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no traces"
    lines = [f"traces: {counted}"]
    titles = {
        "title": layout.get("title"),
        "x axis": (layout.get("xaxis") or {}).get("title"),
        "y axis": (layout.get("yaxis") or {}).get("title"),
    }
    for what, title in titles.items():
        words = title.get("text") if isinstance(title, dict) else title
        if words:
            lines.append(f"{what}: {str(words)[:200]}")
    for trace in traces[:_MOST_TRACES]:
        fields = ", ".join(key for key in trace if key not in ("type", "name"))
        lines.append(f"- {trace.get('name') or trace.get('type', 'scatter')}: {fields}"[:300])
    return "\n".join(lines)


def _as_list(found: dict[str, Any]) -> Any:
    """An array in plotly's JSON, which is binary in base64; anything else as it is."""
    if not {"dtype", "bdata"} <= found.keys() <= {"dtype", "bdata", "shape"}:
        return found
    import numpy

    array = numpy.frombuffer(base64.b64decode(found["bdata"]), found["dtype"])
    shape = [int(size) for size in str(found.get("shape", len(array))).split(",")]
    return array.reshape(shape).tolist()


def _plotly_png(figure: Any) -> bytes | None:
    """None where kaleido, or the browser that it needs, is missing."""
    try:
        found: bytes = figure.to_image(format="png")
    except Exception:  # kaleido's own errors, by version: no package, no Chrome, no start of it
        return None
    return found


def _in_rgb(picture: Any) -> Any:
    return picture.convert("RGBA" if "transparency" in picture.info else "RGB")


def _home(value: Any) -> str:
    return type(value).__module__.partition(".")[0]
