import { Dialog, InputDialog, showDialog } from "@jupyterlab/apputils";
import { button, el, redraw } from "./dom";
import { attempt, type IContext } from "./context";
import { statusText } from "./format";
import type { IAgentState } from "./protocol";

/** The top of the panel: what the agent does, in which session, and other sessions. */
export class SessionHead {
  constructor(private readonly context: IContext) {
    this.status = el("div", { class: "am-State", attributes: { role: "status" } });
    this.stop = this.act(context.trans.__("Stop turn"), "abort", {}, "am-mod-warn");
    this.body = el("div", { class: "am-Session" });
    const top = el("div", { class: "am-Head-top" }, this.status, this.stop);
    this.node = el("div", { class: "am-Head" }, top, this.body);
  }

  update(state: IAgentState): void {
    const { status, session, sessions, problem } = state;
    const shown = JSON.stringify([status, session, sessions, problem]);
    if (shown === this._shown) {
      return;
    }
    this._shown = shown;
    const text = statusText(status, this.context.trans);
    if (this.status.textContent !== text) {
      this.status.textContent = text;
    }
    this.status.dataset.status = status;
    this.stop.hidden = status !== "working" && status !== "waiting";
    redraw(this.body, ...(status === "off" ? [this.hint()] : this.controls(state)));
  }

  private hint(): Node {
    const { trans } = this.context;
    const text = trans.__("This notebook has not loaded the agent yet. Run this in a cell:");
    return el("div", {}, el("p", { text }), el("pre", { class: "am-Block-code", text: "%load_ext agent_magics" }));
  }

  private controls(state: IAgentState): Node[] {
    const { trans } = this.context;
    const { session, problem } = state;
    const row = el("div", { class: "am-Buttons am-mod-small" }, button(trans.__("New"), "new", () => this.begin()));
    if (session !== null) {
      row.append(
        this.act(trans.__("Fork"), "fork"),
        button(trans.__("Rename"), "rename", () => this.rename(session.title)),
        button(trans.__("End"), "end", () => this.end(session.title)),
      );
    }
    return [this.chooser(state), ...this.facts(state), ...warning(session?.error || problem), row];
  }

  private chooser({ session, sessions }: IAgentState): Node {
    const { trans } = this.context;
    const select = el("select", {
      class: "am-Chooser",
      attributes: { "aria-label": trans.__("Session of this notebook"), "data-key": "session" },
    });
    if (session === null) {
      select.append(new Option(trans.__("No session yet"), "", true, true));
    } else if (!sessions.some((one) => one.id === session.id)) {
      select.append(new Option(session.title || session.id, session.id, true, true));
    }
    for (const one of sessions) {
      const isCurrent = one.id === session?.id;
      select.append(new Option(one.title || one.id, one.id, isCurrent, isCurrent));
    }
    select.addEventListener("change", () => {
      if (select.value) {
        void this.run("use", { id: select.value });
      }
    });
    return select;
  }

  private facts({ session }: IAgentState): Node[] {
    if (session === null) {
      return [];
    }
    const { trans } = this.context;
    const where = session.isolated ? session.sandbox : trans.__("%1, not isolated", session.sandbox);
    const facts = [session.model, session.agent, where].filter((fact) => fact);
    return [el("div", { class: "am-dim am-Session-facts", text: facts.join(" · "), title: session.id })];
  }

  private act(label: string, action: string, args: Record<string, unknown> = {}, kind = ""): HTMLElement {
    return button(label, action, () => this.run(action, args), kind);
  }

  private async run(action: string, args: Record<string, unknown>): Promise<void> {
    await attempt(this.context, (link) => link.request(action, args));
    this._shown = ""; // a choice that failed is taken back
    this.update(this.context.links.state);
  }

  private async begin(): Promise<void> {
    const { trans } = this.context;
    const result = await InputDialog.getText({
      title: trans.__("New agent session"),
      label: trans.__("Title"),
      placeholder: trans.__("What it will be about"),
      okLabel: trans.__("Create"),
    });
    if (result.button.accept) {
      await this.run("new", { title: result.value ?? "" });
    }
  }

  private async rename(title: string): Promise<void> {
    const { trans } = this.context;
    const result = await InputDialog.getText({
      title: trans.__("Rename the agent session"),
      label: trans.__("Title"),
      text: title,
      okLabel: trans.__("Rename"),
    });
    if (result.button.accept && result.value?.trim()) {
      await this.run("rename", { title: result.value });
    }
  }

  private async end(title: string): Promise<void> {
    const { trans } = this.context;
    const result = await showDialog({
      title: trans.__("End the session?"),
      body: trans.__("“%1” is deleted for good, with its container and all its files.", title),
      buttons: [
        Dialog.cancelButton({ label: trans.__("Keep") }),
        Dialog.warnButton({ label: trans.__("End session") }),
      ],
    });
    if (result.button.accept) {
      await this.run("end", {});
    }
  }

  readonly node: HTMLElement;
  private readonly status: HTMLElement;
  private readonly stop: HTMLElement;
  private readonly body: HTMLElement;
  private _shown = "";
}

function warning(text: string): Node[] {
  return text ? [el("p", { class: "am-Problem", text })] : [];
}
