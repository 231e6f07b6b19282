import type { TranslationBundle } from "@jupyterlab/translation";
import { el, redraw } from "./dom";
import { costText, countText } from "./format";
import type { IAgentState, IMetrics, ITurnUsage } from "./protocol";
import { Section } from "./section";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 36;
const BAR = 7;
const GAP = 2;

/** What the session has cost so far, and which turn brought how much of it. */
export class UsageSection extends Section {
  constructor(private readonly trans: TranslationBundle) {
    super(trans.__("Usage"), "usage");
  }

  protected slice(state: IAgentState): unknown {
    return [state.metrics, state.history];
  }

  protected draw({ metrics, history }: IAgentState): void {
    const { trans } = this;
    this.note.textContent = metrics ? costText(metrics.cost) : "";
    if (metrics === null) {
      redraw(this.body, el("p", { class: "am-dim", text: trans.__("Nothing was used yet.") }));
      return;
    }
    const rows: [string, string][] = [
      [trans.__("Tokens"), countText(metrics.tokens)],
      [trans.__("Cost"), costText(metrics.cost)],
      [trans.__("Messages"), countText(metrics.messages)],
      [trans.__("Tool calls"), countText(metrics.toolCalls)],
    ];
    const facts = el("dl", { class: "am-Facts" });
    for (const [name, value] of rows) {
      facts.append(el("div", {}, el("dt", { text: name }), el("dd", { text: value })));
    }
    redraw(this.body, facts, ...this.context(metrics), ...this.chart(history));
  }

  private context({ contextUsed, contextLimit }: IMetrics): Node[] {
    if (contextUsed === null || !contextLimit) {
      return [];
    }
    const share = Math.min(1, contextUsed / contextLimit);
    const label = this.trans.__("Context: %1 of %2 tokens", countText(contextUsed), countText(contextLimit));
    const meter = el("meter", {
      class: "am-Context",
      attributes: { min: "0", max: "1", high: "0.8", value: String(share), "aria-label": label },
    });
    return [el("div", { class: "am-Context-label am-dim", text: label }), meter];
  }

  /** One bar for each turn, as high as its tokens. */
  private chart(history: ITurnUsage[]): Node[] {
    if (history.length < 2) {
      return [];
    }
    const most = Math.max(...history.map((turn) => turn.tokens), 1);
    const width = history.length * (BAR + GAP);
    const chart = svg("svg", { class: "am-Chart", viewBox: `0 0 ${width} ${HEIGHT}`, height: String(HEIGHT) });
    chart.setAttribute("width", String(width));
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", this.trans.__("Tokens of the last %1 turns", history.length));
    history.forEach((turn, index) => {
      const height = Math.max(2, Math.round((turn.tokens / most) * HEIGHT));
      const bar = svg("rect", {
        x: String(index * (BAR + GAP)),
        y: String(HEIGHT - height),
        width: String(BAR),
        height: String(height),
        rx: "1",
      });
      const hint = svg("title", {});
      hint.textContent = this.trans.__("%1 tokens, %2", countText(turn.tokens), costText(turn.cost));
      bar.append(hint);
      chart.append(bar);
    });
    const caption = el("div", { class: "am-dim am-Chart-label", text: this.trans.__("Tokens of each turn") });
    return [caption, el("div", { class: "am-Chart-box" }, chart)];
  }
}

function svg(name: string, attributes: Record<string, string>): SVGElement {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  return node;
}
