import { UUID } from "@lumino/coreutils";
import type { IResult } from "./link";

/** Bytes in one message to the kernel. */
export const CHUNK = 512 * 1024;

/** Bytes that the kernel takes through the browser. */
export const LARGEST = 64 * 1024 * 1024;

export type Request = (action: string, args: Record<string, unknown>, buffers?: ArrayBuffer[]) => Promise<IResult>;

/** Fetch a file (`read`, with its path) or an artifact (`artifact`, with its key), piece by piece. */
export async function download(
  request: Request,
  action: "read" | "artifact",
  args: Record<string, unknown>,
): Promise<Uint8Array<ArrayBuffer>> {
  const transfer = UUID.uuid4();
  const pieces: Uint8Array[] = [];
  let offset = 0;
  let size = 0;
  do {
    const { value, buffers } = await request(action, { ...args, transfer, offset });
    const piece = new Uint8Array(buffers[0] ?? new ArrayBuffer(0));
    size = (value as { size: number }).size;
    pieces.push(piece);
    offset += piece.length;
    if (piece.length === 0) {
      break;
    }
  } while (offset < size);
  if (offset !== size) {
    throw new Error("the file did not arrive completely");
  }
  const whole = new Uint8Array(size);
  let position = 0;
  for (const piece of pieces) {
    whole.set(piece, position);
    position += piece.length;
  }
  return whole;
}

/** Put a file into the container, piece by piece. */
export async function upload(
  request: Request,
  path: string,
  data: ArrayBuffer,
  session: string | undefined,
): Promise<void> {
  const transfer = UUID.uuid4();
  let offset = 0;
  do {
    const piece = data.slice(offset, offset + CHUNK);
    const last = offset + piece.byteLength >= data.byteLength;
    await request("write", { path, transfer, offset, last, session }, [piece]);
    offset += piece.byteLength;
  } while (offset < data.byteLength);
}
