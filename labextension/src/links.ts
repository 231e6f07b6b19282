import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { NotebookActions } from "@jupyterlab/notebook";
import type { Kernel, KernelMessage } from "@jupyterlab/services";
import { type ISignal, Signal } from "@lumino/signaling";
import { KernelLink } from "./link";
import { type IAgentState, mentionsAgent, OFF } from "./protocol";

/** Waits before a kernel that runs a cell with agent magics is asked, again and again. */
const TRIES = [500, 2_000, 8_000, 30_000];

/** An open notebook and its way to the agent magics; null without a kernel. */
export interface ILinked {
  panel: NotebookPanel;
  link: KernelLink | null;
}

/**
 * The links of all open notebooks.
 *
 * A kernel is asked only when its notebook mentions the agent magics: one without them would write
 * an error into its log.
 */
export class Links {
  constructor(private readonly tracker: INotebookTracker) {
    tracker.widgetAdded.connect(this.watch, this);
    tracker.forEach((panel) => this.watch(tracker, panel));
    tracker.currentChanged.connect(this.tell, this);
    NotebookActions.executed.connect(this.onExecuted, this);
  }

  /** Emitted when the state of any notebook, or the current notebook, is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The current notebook's link, if it has a kernel. */
  get current(): KernelLink | null {
    const panel = this.tracker.currentWidget;
    return panel === null ? null : (this._links.get(panel) ?? null);
  }

  /** The current notebook's state. */
  get state(): IAgentState {
    return this.current?.state ?? OFF;
  }

  /** All open notebooks. */
  all(): ILinked[] {
    return [...this._links].map(([panel, link]) => ({ panel, link }));
  }

  of(panel: NotebookPanel): KernelLink | null {
    return this._links.get(panel) ?? null;
  }

  private watch(_: unknown, panel: NotebookPanel): void {
    this._links.set(panel, null);
    const connect = () => this.connect(panel);
    panel.sessionContext.kernelChanged.connect(connect);
    panel.disposed.connect(() => {
      this._links.delete(panel);
      this.tell();
    });
    void panel.context.ready.then(connect);
  }

  private connect(panel: NotebookPanel): void {
    const kernel = panel.sessionContext.session?.kernel ?? null;
    const before = this._links.get(panel) ?? null;
    if (panel.isDisposed || before?.kernel === kernel) {
      return;
    }
    before?.dispose();
    const link = kernel === null ? null : this.linkTo(kernel);
    this._links.set(panel, link);
    if (link !== null && usesAgent(panel)) {
      void link.attach();
    }
    this.tell();
  }

  /** Views of one notebook share the connection, hence the link. */
  private linkTo(kernel: Kernel.IKernelConnection): KernelLink {
    const known = [...this._links.values()].find((link) => link?.kernel === kernel);
    if (known) {
      return known;
    }
    const link = new KernelLink(kernel);
    link.changed.connect(this.tell, this);
    kernel.iopubMessage.connect(this.onMessage, this);
    return link;
  }

  private onExecuted(_: unknown, args: { notebook: { parent: unknown }; cell: { model: { sharedModel: { getSource(): string } } } }): void {
    const link = this._links.get(args.notebook.parent as NotebookPanel);
    if (link && !link.isAttached && mentionsAgent(args.cell.model.sharedModel.getSource())) {
      void link.attach();
    }
  }

  /** A cell may load the magics and go on for long. */
  private onMessage(kernel: Kernel.IKernelConnection, message: KernelMessage.IIOPubMessage): void {
    if (message.header.msg_type !== "execute_input") {
      return;
    }
    const { code } = message.content as { code?: unknown };
    const link = [...this._links.values()].find((one) => one?.kernel === kernel);
    if (link && !link.isAttached && typeof code === "string" && mentionsAgent(code)) {
      void this.keepTrying(link);
    }
  }

  private async keepTrying(link: KernelLink): Promise<void> {
    for (const pause of TRIES) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (link.isDisposed || link.kernel.status !== "busy" || (await link.attach())) {
        return;
      }
    }
  }

  private tell(): void {
    this._changed.emit();
  }

  private readonly _links = new Map<NotebookPanel, KernelLink | null>();
  private readonly _changed = new Signal<this, void>(this);
}

function usesAgent(panel: NotebookPanel): boolean {
  const cells = panel.content.model?.cells;
  for (let index = 0; index < (cells?.length ?? 0); index++) {
    if (mentionsAgent(cells!.get(index).sharedModel.getSource())) {
      return true;
    }
  }
  return false;
}
