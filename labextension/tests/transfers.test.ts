import assert from "node:assert/strict";
import { test } from "node:test";
import { CHUNK, download, type Request, upload } from "../src/transfers";

const data = Uint8Array.from({ length: CHUNK + 10 }, (_, index) => index % 251);

test("a download comes in pieces", async () => {
  const offsets: unknown[] = [];
  const request: Request = async (action, { path, offset }) => {
    assert.deepEqual([action, path], ["read", "/a"]);
    offsets.push(offset);
    const start = offset as number;
    return { value: { size: data.length }, buffers: [data.slice(start, start + CHUNK).buffer] };
  };
  assert.deepEqual(await download(request, "read", { path: "/a" }), data);
  assert.deepEqual(offsets, [0, CHUNK]);
});

test("a download that stops early is an error", async () => {
  const request: Request = async () => ({ value: { size: 5 }, buffers: [new ArrayBuffer(0)] });
  await assert.rejects(download(request, "read", { path: "/a" }), /did not arrive completely/);
});

test("an upload goes in pieces, an empty file in one", async () => {
  const seen: unknown[] = [];
  const request: Request = async (_, { offset, last }, pieces) => {
    seen.push([offset, last, pieces![0]!.byteLength]);
    return { value: null, buffers: [] };
  };
  await upload(request, "/a", data.buffer, "ses_1");
  await upload(request, "/b", new ArrayBuffer(0), "ses_1");
  assert.deepEqual(seen, [
    [0, false, CHUNK],
    [CHUNK, true, 10],
    [0, true, 0],
  ]);
});
