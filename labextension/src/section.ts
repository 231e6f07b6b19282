import { el } from "./dom";
import type { IAgentState } from "./protocol";

/** A part of the panel that folds away, and draws itself anew only when what it shows changed. */
export abstract class Section {
  constructor(heading: string, name: string, isOpen = true) {
    this.heading = el("h3", { text: heading });
    this.note = el("span", { class: "am-Section-note" });
    this.body = el("div", { class: "am-Section-body" });
    const summary = el("summary", {}, this.heading, this.note);
    this.node = el("details", { class: `am-Section am-mod-${name}` }, summary, this.body);
    this.node.open = isOpen;
  }

  /** Show this state. */
  update(state: IAgentState): void {
    const shown = JSON.stringify(this.slice(state));
    if (shown !== this._shown) {
      this._shown = shown;
      this.draw(state);
    }
  }

  /** What this section depends on. */
  protected abstract slice(state: IAgentState): unknown;

  /** Fill `body`. */
  protected abstract draw(state: IAgentState): void;

  readonly node: HTMLDetailsElement;
  protected readonly heading: HTMLElement;
  protected readonly note: HTMLElement;
  protected readonly body: HTMLElement;
  private _shown = "";
}
