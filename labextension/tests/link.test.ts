import assert from "node:assert/strict";
import { test } from "node:test";
import { KernelLink } from "../src/link";
import { OFF } from "../src/protocol";
import { FakeComm, FakeKernel } from "./fake_kernel";

async function attached(): Promise<{ kernel: FakeKernel; link: KernelLink; comm: FakeComm }> {
  const kernel = new FakeKernel();
  const link = new KernelLink(kernel.connection, 5_000);
  let comm = new FakeComm();
  kernel.onSent = (sent) => {
    if (sent.action === "attach") {
      comm = kernel.open(sent.client, { status: "ready" });
    }
  };
  assert.equal(await link.attach(), true);
  return { kernel, link, comm };
}

test("it attaches over the control channel and follows the state", async () => {
  const { kernel, link, comm } = await attached();
  assert.deepEqual(kernel.channels, ["control"]);
  assert.equal(link.state.status, "ready");
  assert.deepEqual(link.state.todos, []); // what an older kernel does not send has a default
  let changes = 0;
  link.changed.connect(() => (changes += 1));
  kernel.state(comm, { status: "waiting" });
  assert.equal(link.state.status, "waiting");
  assert.equal(changes, 1);
  assert.equal(await link.attach(), true);
  assert.equal(kernel.sent.length, 1);
});

test("a kernel without the magics is no error", async () => {
  const kernel = new FakeKernel();
  kernel.reply = null;
  const link = new KernelLink(kernel.connection, 5);
  assert.equal(await link.attach(), false);
  assert.equal(link.state, OFF);
  assert.equal(await link.attach(), false); // and it may be asked again
  assert.equal(kernel.sent.length, 2);
});

test("magics that are loaded while an answer is awaited are found by asking again", async () => {
  const kernel = new FakeKernel();
  kernel.reply = null;
  const link = new KernelLink(kernel.connection, 5_000);
  const early = link.attach();
  await new Promise((resolve) => setImmediate(resolve)); // asked, in vain
  kernel.reply = { status: "ok" };
  kernel.onSent = ({ client }) => void kernel.open(client);
  assert.equal(await link.attach(), true);
  kernel.reply = null;
  link.dispose();
  void early;
});

test("another page's comm is left alone", async () => {
  const { kernel, link } = await attached();
  const comm = kernel.open("somebody else", { status: "error" });
  assert.equal(comm.isDisposed, true);
  assert.equal(link.state.status, "ready");
});

test("results come to those who asked, with their bytes", async () => {
  const { kernel, link, comm } = await attached();
  kernel.onSent = ({ id }) => {
    const view = new DataView(Uint8Array.from([9, 1, 2, 3]).buffer, 1);
    kernel.result(comm, id, { ok: true, value: { size: 3 } }, [view]);
  };
  const { value, buffers } = await link.request("read", { path: "/a" });
  assert.deepEqual(value, { size: 3 });
  assert.deepEqual([...new Uint8Array(buffers[0]!)], [1, 2, 3]);
});

test("failures say why", async () => {
  const { kernel, link, comm } = await attached();
  kernel.onSent = ({ id }) => kernel.result(comm, id, { ok: false, message: "no such file" });
  await assert.rejects(link.request("read"), /no such file/);
  kernel.reply = { status: "error", message: "there is no action 'x'" };
  await assert.rejects(link.request("x"), /there is no action/);
});

test("a restart ends what waits and the state", async () => {
  const { kernel, link } = await attached();
  kernel.onSent = () => kernel.statusChanged.emit("restarting");
  await assert.rejects(link.request("abort"), /the kernel is gone/);
  assert.equal(link.isAttached, false);
  assert.equal(link.state, OFF);
});

test("after a lost connection the state is asked for again", async () => {
  const { kernel, comm } = await attached();
  const asked = new Promise<string>((resolve) => {
    kernel.onSent = ({ action, id }) => {
      kernel.result(comm, id, { ok: true, value: null });
      resolve(action);
    };
  });
  kernel.connectionStatusChanged.emit("connected");
  assert.equal(await asked, "refresh");
});
