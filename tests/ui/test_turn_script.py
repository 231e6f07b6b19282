"""The page's half of the turn widget by itself: its script in a browser, fed by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from agent_magics.widgets._ops import OpWriter
from agent_magics.wire import StatusChanged
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    text,
    thought,
    tool_done,
    tool_prints,
    tool_runs,
    tool_start,
)
from tests.support.turn_script import Script

pytestmark = pytest.mark.browser


@pytest.fixture
def script(browser_context: BrowserContext) -> Iterator[Script]:
    page = browser_context.new_page()
    page.clock.install()
    yield (script := Script(page))
    assert script.errors == []
    page.close()


def test_a_view_says_that_it_is_there_and_is_drawn(script: Script) -> None:
    assert script.sent("ready") == [{"kind": "ready"}]
    script.follow(
        thought("Hm."),
        text("# Head\n\nSome *text* and ```"),
        text("\n\n```python\nif x:\n    pass\n```\n\nEnd.\n\n"),
        plan(("first", "completed"), ("second", "x jp-Dialog")),
        tool_start(),
        tool_runs(input={"command": "make"}),
        tool_prints("10%\r", input={"command": "make"}),
        tool_prints("20%\r", input={"command": "make"}),
    )
    page = script.page
    expect(page.locator("h1")).to_have_text("Head")
    stray = """() => [...document.querySelectorAll('.agent-text .agent-open')]
        .flatMap(e => [...e.childNodes]).filter(n => n.nodeType === Node.TEXT_NODE).length"""
    assert page.evaluate(stray) == 0  # they would be blank lines
    expect(page.locator(".agent-code-k").first).to_have_text("if ")
    expect(page.locator("pre.agent-output")).to_have_text("20%")
    expect(page.locator("details.agent-running")).to_have_attribute("open", "")
    expect(page.locator(".agent-todos li")).to_have_count(2)
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    script.follow(
        tool_done(input={"command": "make"}, output="built 🐧\n", metadata={"exit": 3}), ended()
    )
    expect(page.locator("pre.agent-output")).to_have_text("built 🐧")
    expect(page.locator(".agent-warned > summary")).to_contain_text("exit code 3")
    expect(page.locator("details.agent-card[open]")).to_have_count(0)


def test_a_click_is_sent_once_and_settled(script: Script) -> None:
    script.follow(asked())
    page = script.page
    page.get_by_role("button", name="Always allow").click()
    assert [m["reply"] for m in script.sent("reply")] == ["always"]
    expect(page.get_by_role("button", name="Reject")).to_be_disabled()
    script.receive([{"op": "taken", "id": "per_1", "reply": "always"}])
    expect(page.locator(".agent-delivery")).to_have_text("Sent.")
    page.clock.fast_forward(10_000)
    expect(page.locator(".agent-delivery")).to_have_text("Sent.")
    script.follow(replied("always"))
    expect(page.get_by_role("button", name="Allow once")).to_have_count(0)
    expect(page.locator("summary")).to_contain_text("always allowed in this session")


def test_an_unconfirmed_click_can_be_repeated_but_not_changed(script: Script) -> None:
    script.follow(asked())
    page = script.page
    page.get_by_role("button", name="Allow once").click()
    page.clock.fast_forward(5_100)
    expect(page.locator(".agent-delivery")).to_contain_text("Not confirmed")
    expect(page.get_by_role("button", name="Reject")).to_be_disabled()
    page.get_by_role("button", name="Send again").click()
    assert [m["reply"] for m in script.sent("reply")] == ["once", "once"]
    script.receive([{"op": "reopen", "id": "per_1"}])
    page.get_by_label("Reason for a rejection").fill("not now")
    page.get_by_role("button", name="Reject").click()
    last = script.sent("reply")[-1]
    assert (last["reply"], last["message"]) == ("reject", "not now")


def test_the_keyboard_is_enough(script: Script) -> None:
    script.follow(asked())
    page = script.page
    page.get_by_role("button", name="Allow once").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Always allow")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("no")
    page.keyboard.press("Enter")
    assert script.sent("reply")[-1] == {
        "kind": "reply",
        "id": "per_1",
        "reply": "reject",
        "message": "no",
    }


def test_a_missed_message_is_asked_for_and_a_second_view_shows_all(script: Script) -> None:
    script.follow(text("one\n\n"), asked())
    script.record.handle(text("two\n\n", "prt_t2"))
    script.writer.changes()  # lost on the way
    script.number += 1
    script.follow(text("three\n\n", "prt_t3"))
    assert script.sent("hello")[-1] == {"kind": "hello", "next": 2}
    script.writer = OpWriter(script.record)
    script.receive(script.writer.everything(), reset=True)
    page = script.page
    expect(page.locator(".agent-text")).to_have_text(["one", "two", "three"])
    page.evaluate("() => { window.hide(); window.hide = window.show(); }")
    views = page.locator(".agent-turn")
    expect(views).to_have_count(2)
    expect(views.last.get_by_role("button", name="Allow once")).to_be_enabled()
    script.follow(replied())
    expect(views.last.get_by_role("button", name="Allow once")).to_have_count(0)


def test_a_long_output_is_folded_and_all_there(script: Script) -> None:
    lines = [f"line {n}" for n in range(10_000)]
    script.follow(tool_start(), tool_runs(input={"command": "seq"}))
    for begin in range(0, 10_000, 500):
        printed = "".join(f"{line}\n" for line in lines[begin : begin + 500])
        script.follow(tool_prints(printed, input={"command": "seq"}))
    page = script.page
    output, more = page.locator("pre.agent-output"), page.locator(".agent-fold")
    assert output.text_content() == "\n".join([*lines, ""])
    height = "e => [e.clientHeight < e.scrollHeight, e.scrollTop > 0]"
    assert output.evaluate(height) == [True, True]  # a window on the end of it
    expect(more).to_have_text("Show all 10\u202f000 lines")
    more.focus()
    page.keyboard.press("Enter")
    expect(more).to_have_text("Show fewer lines")
    expect(more).to_have_attribute("aria-expanded", "true")
    assert output.evaluate("e => e.clientHeight === e.scrollHeight")
    table = "| n |\n|---|\n" + "".join(f"| {n} |\n" for n in range(1200))
    script.follow(text(table), ended())
    page.get_by_role("button", name="Show 200 more rows").click()
    expect(page.locator("td")).to_have_count(1200)
    expect(page.locator("td").last).to_have_text("1199")


def test_what_cannot_be_copied_is_selected(script: Script) -> None:
    script.follow(text("```\nprint('🐧')\n```\n\n"), ended())
    page = script.page
    page.evaluate(
        """() => {
          navigator.clipboard && (navigator.clipboard.writeText = () => Promise.reject());
          document.execCommand = () => window.allowed;
        }"""
    )
    button = page.locator(".agent-copy")
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    assert button.evaluate("e => getComputedStyle(e).opacity") == "1"
    page.keyboard.press("Enter")
    expect(button).to_have_text("Press Ctrl+C")
    assert page.evaluate("() => getSelection().toString().trim()") == "print('🐧')"
    page.clock.fast_forward(3_000)
    page.evaluate("() => { window.allowed = true; }")
    button.click()
    expect(button).to_have_text("Copied")


def test_a_change_is_shown_line_by_line(script: Script) -> None:
    diff = "--- a.py\n+++ a.py\n@@ -7,3 +7,3 @@ def f():\n same\n-old\n+new\n end\n"
    change = {"filePath": "/workspace/a.py", "oldString": "old", "newString": "new"}
    script.follow(tool_start("edit"), tool_runs("edit", input=change))
    rows = script.page.locator(".agent-diff > span")
    expect(rows).to_have_text(["-old", "+new"])
    script.follow(tool_done("edit", input=change, metadata={"diff": diff}))
    script.page.locator("summary").click()
    expect(rows).to_have_text(["@@ -7,3 +7,3 @@ def f():", " same", "-old", "+new", " end"])
    numbers = rows.evaluate_all("rows => rows.map(row => row.dataset.number || '')")
    assert numbers == ["", "7", "8", "8", "9"]
    assert rows.evaluate_all("rows => rows.map(row => row.className)")[2:4] == [
        "agent-removed",
        "agent-added",
    ]
    expect(script.page.locator("summary")).to_contain_text("+1 \u22121")


def test_formulas_are_drawn_without_a_typesetter(script: Script) -> None:
    script.follow(text("It costs $5 or $6. So $x_1"))
    page = script.page
    expect(page.locator("math")).to_have_count(0)
    source = r"\style{background:url(http://evil.test)}{x}"
    script.follow(text("^2$ it is, $" + source + "$.\n\n$$\n\\frac{a}{b}\n$$\n\nEnd.\n\n"), ended())
    expect(page.locator(".agent-formula > math")).to_have_count(2)
    expect(page.locator("code")).to_have_text(f"${source}$")
    sizes = """() => [...document.querySelectorAll('math')].map(math => {
        const [part] = math.children;
        const [over, under] = [...part.children].map(one => one.getBoundingClientRect());
        return [part.namespaceURI, math.getAttribute('display'), over.bottom <= under.top + 1];
    })"""
    mathml = "http://www.w3.org/1998/Math/MathML"
    assert page.evaluate(sizes)[1] == [mathml, "block", True]  # a line between a and b
    assert page.evaluate("() => window.typeset") == []
    ignored = "() => document.querySelector('.agent-turn').classList.contains('mathjax_ignore')"
    assert page.evaluate(ignored)


def test_times_go_on_between_events(script: Script) -> None:
    script.record.answer_within = 30.0
    script.record.handle(StatusChanged("retry", "too busy", 1, int((time.time() + 20) * 1000)))
    script.follow(tool_start(), tool_runs(input={"command": "make"}))
    page = script.page
    page.clock.fast_forward(4_000)
    expect(page.locator(".agent-status")).to_have_text("waiting to try again (attempt 2): too busy")
    wait = page.locator(".agent-wait").text_content() or ""
    assert 0 < int(wait.split()[1]) <= 16
    expect(page.locator(".agent-running .agent-facts")).to_contain_text("running · ")
    script.follow(asked())
    page.clock.fast_forward(10_000)
    said = page.locator(".agent-deadline").text_content() or ""
    assert 0 < int(said.removeprefix("Rejected in ").split()[0]) <= 20


ATTACKS = [
    "<script>window.__xss = 1</script>",
    "<img src=x onerror='window.__xss = 1'><img src='http://evil.test/img'>",
    "<svg onload='window.__xss = 1'><style>@import 'http://evil.test/css'</style></svg>",
    "<iframe srcdoc='<script>parent.__xss = 1</script>'></iframe>",
    "<a href='javascript:window.__xss = 1' onclick='window.__xss = 1'>x</a>",
    "<a href=' java\tscript:window.__xss = 1'>x</a><a href='data:text/html,x'>y</a>",
    "<p style='position:fixed;inset:0;background:url(http://evil.test/bg)'>x</p>",
    "<form action='http://evil.test'><button>Allow once</button><input></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror='window.__xss = 1'>",
    "<noscript><p title='</noscript><img src=x onerror=window.__xss=1>'></noscript>",
    "<template><script>window.__xss = 1</script></template><base href='http://evil.test/'>",
    "<pre><code>ab</code><data value='1k1<script>'></data><data value='9k'></data></pre>",
    "<ol start='1e9' type='x' id='cell'><li class='jp-Dialog' id='main'>x</li></ol>",
    "<math href='http://evil.test'><mrow style='position:fixed' class='jp-Dialog' id='main'>"
    "<mi mathbackground='red' mathsize='90em' onclick='window.__xss=1'>x</mi></mrow></math>",
    "<math><mspace width='-90em' height='90em'/><mpadded voffset='-9em' lspace='-9em' width='9em'>"
    "<mglyph src='http://evil.test/glyph'/><maction actiontype='statusline'>x</maction></mpadded>"
    "</math>",
    "<math><semantics><annotation-xml encoding='text/html'><img src=x onerror='window.__xss=1'>"
    "</annotation-xml></semantics><mtext><img src='http://evil.test/i'></mtext></math>",
    "<math><mi><svg onload='window.__xss=1'></svg></mi><constructor>x</constructor></math>",
    "<a href='https://good.test@evil.test/'>x</a><a href='/api/shutdown'>y</a>"
    "<a href='//evil.test'>z</a>",
    "<td style='text-align:left;position:fixed'>x</td><details open ontoggle='window.__xss=1'>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_html_past_the_first_wall_stays_inert(script: Script, attack: str) -> None:
    """As if the kernel's renderer had a hole."""
    script.receive([{"op": "text", "id": "t", "keep": 0, "add": attack * 2, "done": len(attack)}])
    page = script.page
    found = page.evaluate(
        """() => [
             ...document.querySelectorAll('main .agent-text :not(.agent-copy, .agent-table)'),
           ].flatMap(e => [
             ...[e.tagName].filter(t => !/^(A|P|PRE|CODE|SPAN|DIV|BUTTON|OL|LI|TABLE|TBODY|TR|TD)$/
               .test(t) && !/^(math|mi|mrow|mspace|mpadded|mtext)$/.test(t)),
             ...[...e.attributes].filter(a => !['class', 'type', 'style'].includes(a.name))
               .map(a => `${e.tagName}@${a.name}`),
             ...[...e.classList].filter(c => !/^(agent-|language-)/.test(c)),
             ...(e.getAttribute('style') || '').split(';').filter(s => s.trim()),
           ])"""
    )
    assert found == []
    assert page.evaluate("() => window.__xss") is None
    assert script.foreign == []
    names = page.get_by_role("button", name="Allow once")
    expect(names).to_have_count(0)


def test_hostile_values_of_operations_stay_text(script: Script) -> None:
    attack = "<img src=x onerror='window.__xss = 1'>"
    block = {"label": attack, "text": attack, "kind": attack}
    script.receive(
        [
            {"op": "head", "status": attack, "state": attack, "facts": [attack], "model": attack}
            | {
                "session": attack,
                "isolated": False,
                "running": True,
                "elapsed": 1,
                "retryIn": None,
            },
            {"op": "tool", "id": "t", "tool": attack, "title": attack, "status": attack}
            | {"mark": attack, "facts": attack, "input": [block], "result": attack},
            {"op": "think", "id": "r", "more": attack},
            {"op": "todos", "todos": [{"mark": attack, "text": attack, "status": attack}]},
            {"op": "ask", "id": "p", "title": attack, "blocks": [block], "always": attack},
            {"op": "image", "id": "i", "src": "http://evil.test/i.png", "name": attack},
            {"op": "image", "id": "j", "src": "javascript:window.__xss=1", "name": attack},
            {"op": "note", "text": attack, "kind": attack},
            {"op": "constructor"},
            {"op": "unknown"},
        ]
    )
    page = script.page
    expect(page.locator("main img[src]")).to_have_count(0)
    assert page.evaluate("() => window.__xss") is None
    assert script.foreign == []
    assert json.dumps(page.locator("main").inner_text()).count("onerror") >= 10
