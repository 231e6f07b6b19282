"""The Python script that the demo model writes into the container to analyse a CSV file."""

from __future__ import annotations

__all__ = ["header", "script"]


def header(
    data: str,
    group: str | None,
    value: str | None,
    statistic: str | None,
    chart: str | None,
    table: str | None,
) -> str:
    """
    The settings at the top of the script.

    Every text of others stands in it as an ASCII literal of Python, so that no file or column
    name can become code.
    """
    return (
        f"DATA = {data!a}\n"
        f"GROUP = {group!a}  # the column to group by\n"
        f"VALUE = {value!a}  # the column with the numbers; None: count rows\n"
        f"STATISTIC = {statistic!a}  # mean, median, sum, min, max, count; None: describe\n"
        f"CHART = {chart!a}  # where the bar chart goes\n"
        f"TABLE = {table!a}  # where the numbers go, as CSV\n"
    )


def script(settings: str) -> str:
    """The whole script; `settings` comes from `header`."""
    return _BEFORE + settings + _AFTER


_BEFORE = '''\
"""Describe the columns of a CSV file, or compare its groups and draw a bar chart."""

import csv
import html
import json
import math
import re
import statistics
from pathlib import Path

'''

_AFTER = '''
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
STATISTICS = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "sum": math.fsum,
    "min": min,
    "max": max,
    "count": len,
}


def read_rows(path):
    """The header and the rows of the file; finds encoding and delimiter by itself."""
    if path.lower().endswith(".parquet"):
        import pandas

        frame = pandas.read_parquet(path)
        names = [str(name) for name in frame.columns]
        values = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
        return names, [dict(zip(names, map(str, row))) for row in values], False
    data = Path(path).read_bytes()
    encoding = "utf-16" if data[:2] in (b"\\xff\\xfe", b"\\xfe\\xff") else "utf-8-sig"
    lines = data.decode(encoding, errors="replace").replace("\\0", "").splitlines(keepends=True)
    first = lines[0] if lines else ""
    delimiter = max(",;\\t|", key=first.count)
    csv.field_size_limit(10_000_000)
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
    names = [name.strip() or f"column {i}" for i, name in enumerate(rows[0] if rows else [], 1)]
    return names, [dict(zip(names, row)) for row in rows[1:]], delimiter == ";"


def number(text):
    """The number in a cell, or None."""
    text = text.strip()
    if comma_is_decimal:
        text = text.replace(",", ".")
    elif re.fullmatch(r"[+-]?\\d{1,3}(,\\d{3})+([.]\\d+)?", text):
        text = text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def describe(names, rows):
    """For each column: its kind, how many values it has and how many different ones."""
    columns = []
    for name in dict.fromkeys(names):
        values = [row[name].strip() for row in rows if name in row]
        values = [value for value in values if value.lower() not in MISSING]
        numbers = sum(number(value) is not None for value in values)
        kind = "number" if values and numbers >= 0.9 * len(values) else "text"
        distinct = len(set(values))
        columns.append({"name": name, "kind": kind, "values": len(values), "distinct": distinct})
    usable = [column for column in columns if len(column["name"]) <= 60]
    return {"rows": len(rows), "columns": usable[:60]}


def compare(rows):
    """The statistic of each group, the biggest first."""
    groups, skipped = {}, 0
    for row in rows:
        label = row.get(GROUP, "").strip() if GROUP is not None else "all rows"
        value = number(row.get(VALUE, "")) if VALUE is not None else 1
        if label.lower() in MISSING or value is None:
            skipped += 1
        else:
            groups.setdefault(label, []).append(value)
    result = [
        {"group": label[:80], "rows": len(values), "value": STATISTICS[STATISTIC](values)}
        for label, values in groups.items()
    ]
    result.sort(key=lambda entry: -entry["value"])
    return result, skipped


def draw(groups, path):
    """A bar chart with matplotlib, or a plain SVG where it is not installed."""
    labels = [entry["group"][:30] for entry in groups]
    values = [entry["value"] for entry in groups]
    title = f"{STATISTIC} of {VALUE}" if VALUE is not None else "rows"
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return draw_svg(labels, values, title, Path(path).with_suffix(".svg"))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.bar(range(len(values)), values, color="#4c72b0")
    turned = sum(map(len, labels)) > 60
    axes.set_xticks(range(len(labels)), labels, rotation=45 if turned else 0, parse_math=False)
    axes.set_xlabel(GROUP or "", parse_math=False)
    axes.set_ylabel(title, parse_math=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return str(path)


def draw_svg(labels, values, title, path):
    top = max([abs(value) for value in values] + [1e-12])
    shapes = [f'<text x="10" y="20">{html.escape(title)}</text>']
    for i, (label, value) in enumerate(zip(labels, values)):
        y, width = 30 + 24 * i, 300 * abs(value) / top
        shapes.append(f'<rect x="160" y="{y}" width="{width:.1f}" height="18" fill="#4c72b0"/>')
        shapes.append(f'<text x="150" y="{y + 14}" text-anchor="end">{html.escape(label)}</text>')
        shapes.append(f'<text x="{165 + width:.1f}" y="{y + 14}">{value:,.6g}</text>')
    size = f'width="560" height="{40 + 24 * len(values)}" font-family="sans-serif" font-size="12"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(shapes)}</svg>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
    return str(path)


def write_table(groups, path):
    """The groups and their numbers as a CSV file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([GROUP or "group", "rows", f"{STATISTIC} of {VALUE}" if VALUE else "count"])
        writer.writerows([entry["group"], entry["rows"], entry["value"]] for entry in groups)
    return str(path)


names, rows, comma_is_decimal = read_rows(DATA)
if STATISTIC is None:
    print(json.dumps(describe(names, rows)))
else:
    groups, skipped = compare(rows)
    shown = groups[:30]
    chart = draw(shown, CHART) if CHART and shown else None
    answer = {"groups": shown, "all": len(groups), "skipped": skipped, "chart": chart}
    answer["table"] = write_table(groups, TABLE) if TABLE and groups else None
    print(json.dumps(answer))
'''
