import type { IResult } from "./link";
import { attempt, type IContext } from "./context";
import { button, el, redraw } from "./dom";
import { joined, parentOf, sizeText } from "./format";
import { HOME, type IAgentState, type IArtifact, type IFile, type IListing } from "./protocol";
import { Section } from "./section";
import { download, LARGEST, upload } from "./transfers";
import { save, viewer } from "./viewer";

/** Open or save something of the container. */
class Fetcher {
  constructor(private readonly context: IContext) {}

  open(name: string, action: "read" | "artifact", args: Record<string, unknown>): Promise<void> {
    return this.fetch(action, args, (data) => {
      const { app, trans } = this.context;
      const widget = viewer(name, data, trans.__("This file can't be shown as text. Download it instead."));
      app.shell.add(widget, "main");
      app.shell.activateById(widget.id);
    });
  }

  save(name: string, action: "read" | "artifact", args: Record<string, unknown>): Promise<void> {
    return this.fetch(action, args, (data) => save(name, data));
  }

  private fetch(
    action: "read" | "artifact",
    args: Record<string, unknown>,
    use: (data: Uint8Array<ArrayBuffer>) => void,
  ): Promise<void> {
    const session = this.context.links.state.session?.id;
    return attempt(this.context, async (link) => {
      use(await download((...all) => link.request(...all), action, { ...args, session }));
    });
  }
}

function row(name: HTMLElement, size: string, saveButton: HTMLElement | null): HTMLElement {
  const end = el("span", { class: "am-File-size", text: size });
  return el("li", { class: "am-File" }, name, end, ...(saveButton ? [saveButton] : []));
}

/** A folder of the container: open, download, drop files in. */
export class FilesSection extends Section {
  constructor(private readonly context: IContext) {
    super(context.trans.__("Files"), "files");
    this.fetcher = new Fetcher(context);
    this.node.addEventListener("dragover", (event) => this.onDrag(event, true));
    this.node.addEventListener("dragleave", (event) => this.onDrag(event, false));
    this.node.addEventListener("drop", (event) => {
      this.onDrag(event, false);
      void this.put([...(event.dataTransfer?.files ?? [])]);
    });
  }

  protected slice(state: IAgentState): unknown {
    return [state.session?.id, state.files];
  }

  protected draw(state: IAgentState): void {
    if (state.session?.id !== this._session) {
      this._session = state.session?.id;
      this._folder = HOME;
    }
    void this.list();
  }

  /** Ask for the folder again. */
  private async list(): Promise<void> {
    const { current: link, state } = this.context.links;
    const session = this._session;
    const folder = this._folder;
    if (link === null || session === undefined || folder === HOME) {
      this._listing = state.listing; // came by itself
      this.show();
      return;
    }
    let result: IResult | null = null;
    try {
      result = await link.request("list", { path: folder, session });
    } catch (error) {
      this._problem = error instanceof Error ? error.message : String(error);
    }
    if (session === this._session && folder === this._folder) {
      this._listing = result ? (result.value as IListing) : null;
      this.show();
    }
  }

  private go(folder: string): void {
    this._folder = folder;
    void this.list();
  }

  private show(): void {
    const { trans } = this.context;
    this.note.textContent = this._session === undefined ? "" : this._folder;
    if (this._session === undefined) {
      redraw(this.body, el("p", { class: "am-dim", text: trans.__("There is no container yet.") }));
      return;
    }
    const rows: HTMLElement[] = [];
    if (this._folder !== HOME) {
      rows.push(row(this.name("..", `up:${this._folder}`, "am-mod-folder", () => this.go(parentOf(this._folder))), "", null));
    }
    rows.push(...(this._listing?.entries ?? []).map((entry) => this.fileRow(entry)));
    const list = el("ul", { class: "am-Files" }, ...rows);
    redraw(this.body, list, ...this.remarks(), this.uploader());
  }

  private remarks(): Node[] {
    const { trans } = this.context;
    if (this._listing === null) {
      return this._problem ? [el("p", { class: "am-Problem", text: this._problem })] : [];
    }
    if (this._listing.more > 0) {
      return [el("p", { class: "am-dim", text: trans.__("and %1 more", this._listing.more) })];
    }
    return this._listing.entries.length ? [] : [el("p", { class: "am-dim", text: trans.__("This folder is empty.") })];
  }

  private fileRow(entry: IFile): HTMLElement {
    if (entry.kind === "directory") {
      return row(this.name(`${entry.name}/`, entry.path, "am-mod-folder", () => this.go(entry.path)), "", null);
    }
    const { trans } = this.context;
    const args = { path: entry.path };
    const name = this.name(entry.name, entry.path, "", () => this.fetcher.open(entry.name, "read", args));
    const get = button("↓", `get:${entry.path}`, () => this.fetcher.save(entry.name, "read", args), "am-mod-icon");
    get.setAttribute("aria-label", trans.__("Download %1", entry.name));
    get.title = get.getAttribute("aria-label")!;
    return row(name, sizeText(entry.size), get);
  }

  private name(text: string, key: string, kind: string, onClick: () => unknown): HTMLElement {
    return button(text, key, onClick, `am-File-name ${kind}`);
  }

  private uploader(): HTMLElement {
    const { trans } = this.context;
    const input = el("input", { attributes: { type: "file", multiple: "", hidden: "" } });
    input.addEventListener("change", () => void this.put([...(input.files ?? [])]));
    const choose = button(trans.__("Upload…"), "upload", () => input.click());
    const hint = el("span", { class: "am-dim", text: trans.__("or drop files here") });
    return el("div", { class: "am-Buttons" }, choose, hint, input);
  }

  private onDrag(event: DragEvent, isOver: boolean): void {
    if (this._session !== undefined && event.dataTransfer?.types.includes("Files")) {
      event.preventDefault();
      event.stopPropagation();
      this.node.classList.toggle("am-mod-drop", isOver);
    }
  }

  private async put(files: File[]): Promise<void> {
    const { trans } = this.context;
    const session = this._session;
    const folder = this._folder;
    for (const file of files) {
      await attempt(this.context, async (link) => {
        if (file.size > LARGEST) {
          throw new Error(trans.__("%1 has more than 64 MB: use %agent_put", file.name));
        }
        const data = await file.arrayBuffer();
        await upload((...all) => link.request(...all), joined(folder, file.name), data, session);
      });
    }
  }

  private readonly fetcher: Fetcher;
  private _session: string | undefined;
  private _folder = HOME;
  private _listing: IListing | null = null;
  private _problem = "";
}

/** What the agent has handed over by name. */
export class ArtifactsSection extends Section {
  constructor(private readonly context: IContext) {
    super(context.trans.__("Artifacts"), "artifacts");
    this.fetcher = new Fetcher(context);
  }

  protected slice(state: IAgentState): unknown {
    return state.artifacts;
  }

  protected draw({ artifacts }: IAgentState): void {
    this.note.textContent = artifacts.length ? String(artifacts.length) : "";
    if (artifacts.length === 0) {
      redraw(this.body, el("p", { class: "am-dim", text: this.context.trans.__("The agent has published nothing yet.") }));
      return;
    }
    redraw(this.body, el("ul", { class: "am-Files" }, ...artifacts.map((one) => this.artifactRow(one))));
  }

  private artifactRow(artifact: IArtifact): HTMLElement {
    const args = { key: artifact.key };
    const open = () => this.fetcher.open(artifact.name, "artifact", args);
    const name = button(artifact.name, artifact.key, open, "am-File-name");
    name.title = artifact.description;
    const label = this.context.trans.__("Download %1", artifact.name);
    const get = button("↓", `get:${artifact.key}`, () => this.fetcher.save(artifact.name, "artifact", args), "am-mod-icon");
    get.setAttribute("aria-label", label);
    get.title = label;
    return row(name, sizeText(artifact.size), get);
  }

  private readonly fetcher: Fetcher;
}
