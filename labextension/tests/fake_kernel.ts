import type { Kernel } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";
import { TARGET } from "../src/protocol";

/** A request as the link sent it. */
export interface ISent {
  client: string;
  id: string;
  action: string;
  args: Record<string, unknown>;
}

type Message = Record<string, unknown>;

/** A comm that remembers whether it was given back. */
export class FakeComm {
  onMsg: (message: Message) => void = () => undefined;
  onClose: () => void = () => undefined;
  isDisposed = false;

  dispose(): void {
    this.isDisposed = true;
  }
}

/** As much of a kernel connection as a link uses. `reply` says what the control channel answers. */
export class FakeKernel {
  readonly clientId = "c";
  readonly username = "u";
  readonly statusChanged = new Signal<this, string>(this);
  readonly connectionStatusChanged = new Signal<this, string>(this);
  readonly disposed = new Signal<this, void>(this);
  readonly sent: ISent[] = [];
  readonly channels: string[] = [];
  reply: Message | null = { status: "ok", protocol: 1 };
  onSent: (sent: ISent) => void = () => undefined;
  private target: (comm: FakeComm, message: Message) => void = () => undefined;

  get connection(): Kernel.IKernelConnection {
    return this as unknown as Kernel.IKernelConnection;
  }

  registerCommTarget(name: string, callback: (comm: FakeComm, message: Message) => void): void {
    if (name === TARGET) {
      this.target = callback;
    }
  }

  sendControlMessage(message: { channel: string; content: ISent }): unknown {
    this.sent.push(message.content);
    this.channels.push(message.channel);
    const future = { onReply: (_: unknown) => undefined, done: new Promise(() => undefined), dispose: () => undefined };
    queueMicrotask(() => {
      if (this.reply !== null) {
        future.onReply({ content: this.reply });
      }
      this.onSent(message.content);
    });
    return future;
  }

  /** What the kernel does for a page that attaches. */
  open(client: string, state: Message = {}): FakeComm {
    const comm = new FakeComm();
    this.target(comm, { content: { data: { client } } });
    this.state(comm, state);
    return comm;
  }

  state(comm: FakeComm, state: Message): void {
    comm.onMsg({ content: { data: { type: "state", state } } });
  }

  result(comm: FakeComm, id: string, result: Message, buffers: unknown[] = []): void {
    comm.onMsg({ content: { data: { type: "result", id, ...result } }, buffers });
  }
}
