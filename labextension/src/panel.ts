import { Widget } from "@lumino/widgets";
import { attempt, type IContext } from "./context";
import { el } from "./dom";
import { ArtifactsSection, FilesSection } from "./files";
import { agentIcon } from "./icons";
import { Permissions } from "./permissions";
import { PlanSection } from "./plan";
import type { Section } from "./section";
import { SessionHead } from "./session";
import { UsageSection } from "./usage";

/** The side bar: the session of the current notebook. */
export class AgentPanel extends Widget {
  constructor(private readonly context: IContext) {
    super();
    const { trans, links } = context;
    this.id = "agent-magics-panel";
    this.title.icon = agentIcon;
    this.title.caption = trans.__("Agent");
    this.addClass("am-Panel");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", trans.__("Agent"));
    this.head = new SessionHead(context);
    this.permissions = new Permissions(trans, (id, reply) => attempt(context, (link) => link.answer(id, reply)));
    this.sections = [
      new PlanSection(trans),
      new FilesSection(context),
      new ArtifactsSection(context),
      new UsageSection(trans),
    ];
    this.folding = el("div", {}, ...this.sections.map((section) => section.node));
    this.node.append(this.head.node, this.permissions.node, this.folding);
    links.changed.connect(this.draw, this);
    this.draw();
  }

  private draw(): void {
    const { state } = this.context.links;
    this.head.update(state);
    this.permissions.update(state);
    this.folding.hidden = state.status === "off";
    for (const section of this.sections) {
      section.update(state);
    }
    this.title.className = state.permissions.length ? "am-mod-waiting" : "";
  }

  private readonly head: SessionHead;
  private readonly permissions: Permissions;
  private readonly sections: Section[];
  private readonly folding: HTMLElement;
}
