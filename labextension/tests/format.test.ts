import assert from "node:assert/strict";
import { test } from "node:test";
import { costText, countText, fenced, joined, parentOf, sizeText, summary, withoutColours } from "../src/format";
import { isAgentCell, mentionsAgent } from "../src/protocol";

test("sizes, counts and costs are short", () => {
  assert.deepEqual([0, 999, 1000, 1536, 20_000_000, 3e12].map(sizeText), [
    "0 B",
    "999 B",
    "1.0 kB",
    "1.5 kB",
    "20 MB",
    "3000 GB",
  ]);
  assert.deepEqual([0, 999, 12_345, 99_999, 999_949, 4_500_000].map(countText), [
    "0",
    "999",
    "12.3k",
    "100k",
    "1000k",
    "4.5M",
  ]);
  assert.deepEqual([null, 0, 0.0123, 2.5].map(costText), ["–", "$0.00", "$0.0123", "$2.50"]);
});

test("paths of the container", () => {
  assert.equal(parentOf("/workspace/a/b"), "/workspace/a");
  assert.equal(parentOf("/workspace/"), "/");
  assert.equal(parentOf("/"), "/");
  assert.equal(joined("/", "a"), "/a");
  assert.equal(joined("/workspace", "a b"), "/workspace/a b");
});

test("a message is whole, or says that it is not", () => {
  const asked = (text: string) => ({ id: "p", title: "Run?", always: "", blocks: [{ label: "", text, kind: "code" }] });
  assert.deepEqual(summary("a.ipynb", asked("ls")), { text: "Run?: ls (a.ipynb)", isWhole: true });
  const long = "x".repeat(130);
  assert.deepEqual(summary("a.ipynb", asked(long)), { text: `Run?: ${long}`, isWhole: true });
  for (const hidden of ["x".repeat(140), "ls\nrm -rf ~"]) {
    const { text, isWhole } = summary("a.ipynb", asked(hidden));
    assert.equal(isWhole, false);
    assert.ok(text.length <= 140 && text.endsWith("…"));
  }
});

test("nothing ends a code block early", () => {
  assert.equal(fenced("a ``` b", "text"), "````text\na ``` b\n````");
  assert.equal(withoutColours("\x1b[0;31mValueError\x1b[0m: x"), "ValueError: x");
});

test("prompts and mentions of the agent are told from other code", () => {
  for (const prompt of ["%%agent", "%%agent -b\nhi", "%%agent\tx"]) {
    assert.ok(isAgentCell(prompt), prompt);
  }
  for (const other of ["%%agent_shell\nls", " %%agent", "x\n%%agent", "%agent hi", "%%agents"]) {
    assert.ok(!isAgentCell(other), other);
  }
  for (const source of ["x = 1\n%agent hi", "%load_ext agent_magics", "%%agent_shell\nls"]) {
    assert.ok(mentionsAgent(source), source);
  }
  assert.ok(!mentionsAgent("agents = 50 %agent"));
});
