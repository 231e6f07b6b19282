"""The joined script; what it does in a page is in `tests/ui/test_turn_script.py`."""

from __future__ import annotations

import re

from agent_magics.widgets._script import MODULES, STATIC, turn_script


def test_every_module_is_part_of_it() -> None:
    assert sorted(MODULES) == sorted(path.stem for path in STATIC.glob("*.js"))
    script = turn_script()
    for path in STATIC.glob("*.js"):
        last = path.read_text(encoding="utf-8").rstrip().splitlines()[-3:]
        assert "\n".join(last) in script, path


def test_it_stands_alone() -> None:
    script = turn_script()
    assert not re.search(r"^\s*import\b", script, re.MULTILINE)
    assert re.findall(r"^export .*$", script, re.MULTILINE) == ["export default () => {"]


def test_no_name_is_used_twice() -> None:
    declared = re.findall(
        r"^(?:async )?(?:class|const|function|let) (\w+)", turn_script(), re.MULTILINE
    )
    assert len(declared) > 20
    assert len(declared) == len(set(declared))
