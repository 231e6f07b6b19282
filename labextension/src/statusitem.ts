import { Widget } from "@lumino/widgets";
import type { IContext } from "./context";
import { el } from "./dom";
import { statusText } from "./format";

/** The status bar's item: what the agent of the current notebook does. */
export class StatusItem extends Widget {
  constructor(
    private readonly context: IContext,
    onClick: () => unknown,
  ) {
    super({ node: el("button", { attributes: { type: "button" } }) });
    this.addClass("am-StatusItem");
    this.node.title = context.trans.__("Show the agent's panel");
    this.node.addEventListener("click", () => void onClick());
    context.links.changed.connect(this.draw, this);
    this.draw();
  }

  /** Whether there is anything to say. */
  get isActive(): boolean {
    return this.context.links.state.status !== "off";
  }

  private draw(): void {
    const { links, trans } = this.context;
    const { status } = links.state;
    this.node.dataset.status = status;
    this.node.textContent = trans.__("Agent: %1", statusText(status, trans));
  }
}
