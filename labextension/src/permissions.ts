import type { TranslationBundle } from "@jupyterlab/translation";
import { button, el, redraw } from "./dom";
import type { IAgentState, IBlock, IPermission, Reply } from "./protocol";

export type Answer = (permission: string, reply: Reply) => Promise<void>;

/** The open questions of the agent, whole and with buttons. */
export class Permissions {
  constructor(
    private readonly trans: TranslationBundle,
    private readonly answer: Answer,
  ) {
    this.node = el("div", { class: "am-Permissions" });
  }

  update({ permissions }: IAgentState): void {
    const shown = JSON.stringify(permissions);
    if (shown !== this._shown) {
      this._shown = shown;
      redraw(this.node, ...permissions.map((one) => this.card(one)));
    }
  }

  private card(permission: IPermission): HTMLElement {
    const heading = el("h3", { text: permission.title, attributes: { id: `am-ask-${permission.id}` } });
    const buttons = el("div", { class: "am-Buttons" });
    const add = (label: string, reply: Reply, kind: string) => {
      const send = async () => {
        const all = [...buttons.querySelectorAll("button")];
        all.forEach((one) => (one.disabled = true));
        await this.answer(permission.id, reply);
        all.forEach((one) => (one.disabled = false)); // still here: it did not reach the agent
      };
      buttons.append(button(label, `${permission.id}-${reply}`, send, kind));
    };
    add(this.trans.__("Allow once"), "once", "am-mod-accept");
    if (permission.always) {
      add(permission.always, "always", "");
    }
    add(this.trans.__("Reject"), "reject", "am-mod-warn");
    const card = el("section", { class: "am-Permission", attributes: { "aria-labelledby": heading.id } });
    card.append(heading, ...permission.blocks.map(blockNode), buttons);
    return card;
  }

  readonly node: HTMLElement;
  private _shown = "[]";
}

/** All of it: what a person allows must be readable. */
function blockNode(block: IBlock): HTMLElement {
  const label = block.label ? [el("div", { class: "am-dim", text: block.label })] : [];
  const body =
    block.kind === "line"
      ? el("div", { class: "am-Block-line", text: block.text })
      : el("pre", { class: "am-Block-code" }, ...codeLines(block));
  return el("div", { class: "am-Block" }, ...label, body);
}

function codeLines({ text, kind }: IBlock): Node[] {
  if (kind !== "diff") {
    return [document.createTextNode(text)];
  }
  return text.split("\n").map((line) => {
    const node = el("span", { class: "am-Diff", text: `${line}\n` });
    node.dataset.sign = line[0] ?? "";
    return node;
  });
}
