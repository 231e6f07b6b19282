import { CodeCell } from "@jupyterlab/cells";
import { type NotebookPanel, NotebookActions } from "@jupyterlab/notebook";
import { errorOf } from "./cells";
import type { IContext } from "./context";
import { button, el } from "./dom";
import type { Choices } from "./settings";

const CLASS = "am-Fix";

/** A button below every failed output, in notebooks whose kernel has the agent magics. */
export class FixButtons {
  constructor(
    private readonly context: IContext,
    private readonly choices: Choices,
    private readonly fix: (panel: NotebookPanel, cell: CodeCell) => unknown,
  ) {
    NotebookActions.executed.connect(this.update, this);
    context.links.changed.connect(this.update, this);
    choices.changed.connect(this.update, this);
  }

  private update(): void {
    for (const { panel, link } of this.context.links.all()) {
      if (link?.isAttached) {
        panel.content.widgets.forEach((cell) => this.draw(panel, cell));
      }
    }
  }

  private draw(panel: NotebookPanel, cell: unknown): void {
    if (!(cell instanceof CodeCell)) {
      return;
    }
    if (!this._watched.has(cell)) {
      this._watched.add(cell);
      cell.model.outputs.changed.connect(() => this.draw(panel, cell));
    }
    const { node } = cell.outputArea;
    const present = node.querySelector(`:scope > .${CLASS}`);
    const isWanted = this.choices.fixButton && errorOf(cell) !== null;
    if (isWanted && !present) {
      const label = this.context.trans.__("Fix with the agent");
      node.append(el("div", { class: CLASS }, button(label, "fix", () => this.fix(panel, cell))));
    } else if (!isWanted) {
      present?.remove();
    }
  }

  private readonly _watched = new WeakSet<CodeCell>();
}
