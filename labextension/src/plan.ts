import type { TranslationBundle } from "@jupyterlab/translation";
import { el, redraw } from "./dom";
import type { IAgentState, ITodo } from "./protocol";
import { Section } from "./section";

const MARKS: Record<string, string> = { completed: "✓", in_progress: "●", cancelled: "✕" };

/** The agent's plan. */
export class PlanSection extends Section {
  constructor(private readonly trans: TranslationBundle) {
    super(trans.__("Plan"), "plan");
  }

  protected slice(state: IAgentState): unknown {
    return state.todos;
  }

  protected draw({ todos }: IAgentState): void {
    const done = todos.filter((todo) => todo.status === "completed").length;
    this.note.textContent = todos.length ? this.trans.__("%1 of %2", done, todos.length) : "";
    if (todos.length === 0) {
      redraw(this.body, el("p", { class: "am-dim", text: this.trans.__("The agent has made no plan yet.") }));
      return;
    }
    redraw(this.body, el("ul", { class: "am-Plan" }, ...todos.map((todo) => this.row(todo))));
  }

  private row(todo: ITodo): HTMLElement {
    const mark = el("span", {
      class: "am-Plan-mark",
      text: MARKS[todo.status] ?? "○",
      attributes: { role: "img", "aria-label": this.statusText(todo.status) },
    });
    const row = el("li", { class: "am-Plan-item" }, mark, el("span", { text: todo.content }));
    row.dataset.status = todo.status;
    return row;
  }

  private statusText(status: string): string {
    switch (status) {
      case "completed":
        return this.trans.__("done");
      case "in_progress":
        return this.trans.__("in progress");
      case "cancelled":
        return this.trans.__("cancelled");
      default:
        return this.trans.__("to do");
    }
  }
}
