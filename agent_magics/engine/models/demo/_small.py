"""The small walk-throughs: look around, plan, write and run, and everything else."""

from __future__ import annotations

import json
import re
from collections import Counter

from .._catalog import BUILTIN
from ._steps import Call, Result, Step, Walk, todos
from ._text import cell, code, tail

__all__ = ["LABEL", "fail", "look_around", "make_plan", "other", "write_and_run"]

LABEL = "*I am the built-in demo model: a script, not an AI. The tools and results are real.*"

_INSPECT = """\
import json, platform, shutil, importlib.util as u
names = ["numpy", "pandas", "matplotlib", "scipy", "sklearn"]
disk = shutil.disk_usage(".")
print(json.dumps({
    "python": platform.python_version(),
    "system": platform.system(),
    "free": disk.free,
    "packages": [name for name in names if u.find_spec(name)],
}))"""
_GIGABYTE = 1 << 30
_SPLIT = re.compile(r"(?:,|;|\n|\band then\b|\bthen\b|\band\b)+", re.IGNORECASE)
_PLAN_WORDS = re.compile(
    r"^\W*(?:please|can you|could you)?\W*(?:make|write|create|give me|show me)?\W*(?:me\b)?\W*"
    r"(?:a |the |some )?(?:plan|to-?dos?|to-?do list|steps)?\W*(?:how to|for|to|of|with|:)?\W*",
    re.IGNORECASE,
)
MAX_TODOS = 8


def other() -> Walk:
    """Anything that the demo model can't do."""
    variables = ", ".join(spec.key_variables[0] for spec in BUILTIN if not spec.key_optional)
    yield Step(
        "I am the built-in demo model, a script and not an AI, and this is beyond me: to connect a "
        f"real model, set one of {variables} (or OLLAMA_HOST for a model of your own) in the "
        "notebook's environment, or choose one by its name with AGENT_MAGICS_MODEL.\n\n"
        "What I can show you, with real tools in the real container:\n"
        "- `look around`\n"
        "- `analyse data.csv, mean price per city, save a bar chart as prices.png`\n"
        "- `plan: load the data, clean it, draw a chart`\n"
        "- `write a hello function with a test and run it`\n"
        "- `show me an error`"
    )


def fail() -> Walk:
    """What it looks like when a model fails in the middle of its reply."""
    yield Step(
        f"{LABEL}\n\nModels fail now and then, as I do now. What was said until then is kept.",
        failure="The demo model failed, as you asked it to. Nothing is broken: just go on.",
    )


def look_around() -> Walk:
    """What is in the workspace, which Python, how much disk."""
    found, facts = yield Step(
        f"{LABEL}\n\nLet me see what is in `/workspace` and which Python runs here.",
        (
            Call("glob", {"pattern": "**/*"}),
            Call(
                "bash",
                {
                    "command": f"python3 -c '{_INSPECT}'",
                    "description": "Show Python, its packages and free disk space",
                },
            ),
        ),
    )
    lines = [_files(found), _facts(facts)]
    table = next((path for path in found.text.splitlines() if path.endswith(".csv")), None)
    if found.ok and table:
        name = code(table.removeprefix("/workspace/"))
        lines.append(f"Try next: analyse {name}")
    yield Step("\n\n".join(lines))


def _files(found: Result) -> str:
    if not found.ok:
        return f"I could not list the files:\n\n{tail(found.text)}"
    paths = [line for line in found.text.splitlines() if line.startswith("/")]
    if not paths:
        return "`/workspace` is empty. Files that you put there appear for me and for you."
    kinds = Counter(path.rpartition("/")[2].rpartition(".")[2].lower()[:12] for path in paths)
    counted = ", ".join(f"{count} {code(kind)}" for kind, count in kinds.most_common(5))
    newest = "\n".join(f"- {code(path)}" for path in paths[:10])
    more = f"\n- and {len(paths) - 10} more" if len(paths) > 10 else ""
    return (
        f"In `/workspace` there are {len(paths)} files ({counted}), newest first:\n\n{newest}{more}"
    )


def _facts(result: Result) -> str:
    if result.rejected:
        return "You did not allow the command, so I can't say which Python runs here. That's fine."
    try:
        facts = json.loads(result.text)
        free = facts["free"] / _GIGABYTE
        packages = ", ".join(facts["packages"]) or "none of the usual data packages"
        return (
            f"Python {facts['python']} on {facts['system']}, with {packages}; "
            f"{free:.1f} GB of disk are free."
        )
    except (ValueError, KeyError, TypeError):
        return f"The command did not work:\n\n{tail(result.text)}"


def make_plan(prompt: str) -> Walk:
    """A todo list of what the prompt names."""
    task = _PLAN_WORDS.sub("", prompt, count=1).strip()
    steps = [piece.strip(" .!?:-\t") for piece in _SPLIT.split(task)]
    labels = [step[:1].upper() + step[1:120] for step in steps if len(step) > 2][:MAX_TODOS]
    if len(labels) < 2:
        about = labels[0] if labels else "the task"
        labels = [
            f"Clarify the goal: {about}",
            "Look at what is in /workspace",
            "Try the smallest useful step",
            "Check the result",
            "Write down what was found",
        ]
    (written,) = yield Step(
        f"{LABEL}\n\nI put the steps on the todo list.", (todos(labels, current=0),)
    )
    if not written.ok:
        yield Step(f"The list could not be written:\n\n{tail(written.text)}")
        return
    listed = "\n".join(f"{i}. {cell(label)}" for i, label in enumerate(labels, 1))
    yield Step(
        f"The plan has {len(labels)} steps:\n\n{listed}\n\n"
        "A real model would now start with the first one; I only carry out my own walk-throughs."
    )


_HELLO = '''\
"""A small function with a test."""

import unittest


def greet(name: str = "world") -> str:
    """A greeting for `name`."""
    return f"Hello, {name.strip() or 'world'}!"


class GreetTest(unittest.TestCase):
    def test_name(self):
        self.assertEqual(greet("Ada"), "Hello, Ada!")

    def test_blank_name(self):
        self.assertEqual(greet("  "), "Hello, world!")


if __name__ == "__main__":
    print(greet())
    unittest.main()
'''


def write_and_run() -> Walk:
    """Write a file with a function and its test, and run it."""
    labels = ["Find a free file name", "Write the function and its test", "Run the test"]
    _, found = yield Step(
        f"{LABEL}\n\nI write a small function with a test and run it.",
        (todos(labels, 0), Call("glob", {"pattern": "hello*.py"})),
    )
    name = _free_name(found.text)
    _, written = yield Step(
        f"It goes to {code(name)}.",
        (todos(labels, 1), Call("write", {"filePath": name, "content": _HELLO})),
    )
    if not written.ok:
        yield Step("The file was not written.", (todos(labels, 1, stopped=True),))
        yield Step(f"I could not write {code(name)}:\n\n{tail(written.text)}")
        return
    run = {"command": f"python3 {name} -v", "description": "Run the function and its test"}
    _, ran = yield Step("Now I run it.", (todos(labels, 2), Call("bash", run)))
    done = "It ran." if ran.ok else "It did not run."
    yield Step(done, (todos(labels, 3 if ran.ok else 2, stopped=not ran.ok),))
    if ran.rejected:
        yield Step(
            f"You did not allow me to run it. The file is there: {code('/workspace/' + name)}."
        )
        return
    verdict = "It works" if "\nOK" in ran.text else "It did not go as planned"
    yield Step(f"{verdict}. The end of what it printed:\n\n{tail(ran.text, 12)}")


def _free_name(listing: str) -> str:
    taken = {line.rpartition("/")[2] for line in listing.splitlines()}
    candidates = ["hello.py", *(f"hello_{i}.py" for i in range(2, 200))]
    return next((name for name in candidates if name not in taken), "hello_demo.py")
