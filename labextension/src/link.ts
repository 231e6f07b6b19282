import type { Kernel, KernelMessage } from "@jupyterlab/services";
import { UUID } from "@lumino/coreutils";
import { type ISignal, Signal } from "@lumino/signaling";
import { type IAgentState, OFF, REQUEST, type Reply, TARGET } from "./protocol";

const ATTACH_PATIENCE = 10_000;
const RESULT_PATIENCE = 180_000;

/** The result of an action. */
export interface IResult {
  value: unknown;
  buffers: ArrayBuffer[];
}

interface IWaiting {
  resolve: (result: IResult) => void;
  reject: (error: Error) => void;
}

type Bytes = ArrayBuffer | ArrayBufferView;

/**
 * The way to the agent magics in one kernel.
 *
 * Requests go over the control channel, which a kernel reads while a cell runs; answers and states
 * come over a comm that the kernel opens for this front end.
 */
export class KernelLink {
  constructor(
    readonly kernel: Kernel.IKernelConnection,
    private readonly patience = ATTACH_PATIENCE,
  ) {
    kernel.registerCommTarget(TARGET, (comm, message) => this.opened(comm, message));
    kernel.statusChanged.connect(this.onStatus, this);
    kernel.connectionStatusChanged.connect(this.onConnection, this);
    kernel.disposed.connect(this.dispose, this);
  }

  get state(): IAgentState {
    return this._state;
  }

  /** Emitted whenever `state` is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isAttached(): boolean {
    return this._comm !== null;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /**
   * Ask the kernel for the agent magics. False when it has none, or says nothing in time.
   *
   * Each call asks anew: the magics may have been loaded since the one before.
   */
  async attach(): Promise<boolean> {
    if (this.isAttached) {
      return true;
    }
    const opened = new Promise<void>((resolve) => this._onOpened.push(resolve));
    try {
      await this.send(UUID.uuid4(), "attach", {}, []);
      await within(opened, this.patience);
    } catch {
      // no magics there, or no kernel any more
    }
    return this.isAttached;
  }

  /** Have the kernel do something. Rejects with what went wrong, for people. */
  async request(action: string, args: Record<string, unknown> = {}, buffers: ArrayBuffer[] = []): Promise<IResult> {
    const id = UUID.uuid4();
    const result = new Promise<IResult>((resolve, reject) => {
      this._waiting.set(id, { resolve, reject });
    });
    result.catch(() => undefined); // it may fail before anybody waits for it
    try {
      const answer = await this.send(id, action, args, buffers);
      if (answer.status !== "ok") {
        throw new Error(String(answer.message ?? answer.status));
      }
      return await within(result, RESULT_PATIENCE);
    } finally {
      this._waiting.delete(id);
    }
  }

  /** Answer a permission request. */
  async answer(permission: string, reply: Reply): Promise<void> {
    await this.request("reply", { id: permission, reply, session: this._state.session?.id });
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.reset();
    Signal.clearData(this);
  }

  /** Send a request; its reply says only whether it was understood. */
  private async send(
    id: string,
    action: string,
    args: Record<string, unknown>,
    buffers: ArrayBuffer[],
  ): Promise<Record<string, unknown>> {
    const { kernel } = this;
    const message = {
      channel: "control",
      header: {
        date: new Date().toISOString(),
        msg_id: UUID.uuid4(),
        msg_type: REQUEST,
        session: kernel.clientId,
        username: kernel.username,
        version: "5.3",
      },
      parent_header: {},
      metadata: {},
      content: { client: this._client, id, action, args },
      buffers,
    } as unknown as KernelMessage.IControlMessage;
    const future = kernel.sendControlMessage(message, true);
    const replied = new Promise<Record<string, unknown>>((resolve) => {
      future.onReply = (reply) => resolve(reply.content as unknown as Record<string, unknown>);
    });
    future.done.catch(() => undefined); // a kernel that goes away cancels it
    try {
      return await within(replied, this.patience);
    } finally {
      future.dispose();
    }
  }

  private opened(comm: Kernel.IComm, message: KernelMessage.ICommOpenMsg): void {
    if ((message.content.data as { client?: unknown }).client !== this._client) {
      comm.dispose(); // another page's
      return;
    }
    this._comm = comm;
    comm.onMsg = (incoming) => this.received(incoming);
    comm.onClose = () => this.reset();
    this._onOpened.splice(0).forEach((resolve) => resolve());
  }

  private received(message: KernelMessage.ICommMsgMsg): void {
    const data = message.content.data as Record<string, unknown>;
    if (data.type === "state") {
      this._state = { ...OFF, ...(data.state as IAgentState) };
      this._changed.emit();
    } else if (data.type === "result") {
      const waiting = this._waiting.get(String(data.id));
      if (data.ok === true) {
        waiting?.resolve({ value: data.value, buffers: (message.buffers ?? []).map(bytesOf) });
      } else {
        waiting?.reject(new Error(String(data.message)));
      }
    }
  }

  private onStatus(_: unknown, status: string): void {
    if (["restarting", "autorestarting", "dead", "terminating"].includes(status)) {
      this.reset();
    }
  }

  /** What was sent while the connection was lost is lost: ask again. */
  private onConnection(_: unknown, status: string): void {
    if (status === "connected" && this.isAttached) {
      this.request("refresh").catch(() => this.reset());
    }
  }

  private reset(): void {
    this._comm = null;
    for (const waiting of this._waiting.values()) {
      waiting.reject(new Error("the kernel is gone"));
    }
    this._waiting.clear();
    if (this._state !== OFF) {
      this._state = OFF;
      this._changed.emit();
    }
  }

  private readonly _client = UUID.uuid4();
  private readonly _changed = new Signal<this, void>(this);
  private readonly _waiting = new Map<string, IWaiting>();
  private _comm: Kernel.IComm | null = null;
  private readonly _onOpened: (() => void)[] = [];
  private _state: IAgentState = OFF;
  private _isDisposed = false;
}

/** The same promise, but not for ever. */
async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the kernel did not answer in time")), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function bytesOf(bytes: Bytes): ArrayBuffer {
  if (bytes instanceof ArrayBuffer) {
    return bytes;
  }
  const { buffer, byteOffset, byteLength } = bytes;
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength).slice().buffer;
}
