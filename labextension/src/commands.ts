import type { ICommandPalette } from "@jupyterlab/apputils";
import { CodeCell } from "@jupyterlab/cells";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import type { LabIcon } from "@jupyterlab/ui-components";
import { errorOf, fixPrompt, insertAndRun, insertToEdit, promptOfSelection, questionAbout } from "./cells";
import { attempt, type IContext } from "./context";
import { abortIcon, agentIcon } from "./icons";
import type { Reply } from "./protocol";

const ARGS = { args: { type: "object", properties: {} } } as const;

interface ICommand {
  id: string;
  label: string;
  caption: string;
  execute: () => unknown;
  isEnabled?: () => boolean;
  icon?: LabIcon;
}

/** The commands, for the palette, menus, the toolbar and shortcuts. */
export class Commands {
  constructor(
    private readonly context: IContext,
    private readonly tracker: INotebookTracker,
    private readonly showPanel: () => void,
  ) {
    for (const command of [...this.inNotebook(), ...this.inTurn()]) {
      this.add(command);
    }
    context.links.changed.connect(() => context.app.commands.notifyCommandChanged());
  }

  /** Put them into the palette. */
  list(palette: ICommandPalette): void {
    for (const id of this.ids) {
      palette.addItem({ command: id, category: this.context.trans.__("Agent") });
    }
  }

  /** Ask the agent to mend a failed cell. */
  fix(panel: NotebookPanel, cell: CodeCell): Promise<void> {
    const { content } = panel;
    content.activeCellIndex = content.widgets.indexOf(cell);
    const prompt = fixPrompt(cell.model.sharedModel.getSource(), errorOf(cell) ?? "");
    return insertAndRun(panel, prompt, this.isLoaded(panel));
  }

  private inNotebook(): ICommand[] {
    const { trans } = this.context;
    const isEnabled = () => this.panel !== null;
    return [
      {
        id: "agent-magics:insert-cell",
        label: trans.__("Insert Agent Cell"),
        caption: trans.__("Insert a cell below that gives the agent a task"),
        execute: () => this.inPanel((panel) => insertToEdit(panel, "%%agent\n", 1)),
        isEnabled,
        icon: agentIcon,
      },
      {
        id: "agent-magics:run-selection",
        label: trans.__("Run Selection as Agent Prompt"),
        caption: trans.__("Give the agent the selected text, or the whole cell, as a task"),
        execute: () => this.inPanel((panel) => this.runSelection(panel)),
        isEnabled,
      },
      {
        id: "agent-magics:ask-about-cell",
        label: trans.__("Ask Agent About This Cell"),
        caption: trans.__("Insert a cell below with a question about the active cell"),
        execute: () =>
          this.inPanel((panel) => {
            const source = panel.content.activeCell?.model.sharedModel.getSource() ?? "";
            insertToEdit(panel, questionAbout(source), 1);
          }),
        isEnabled,
      },
      {
        id: "agent-magics:fix-error",
        label: trans.__("Fix This Error With the Agent"),
        caption: trans.__("Show the agent the failed cell, and have it propose one that works"),
        execute: () =>
          this.inPanel((panel) => {
            const cell = this.failed;
            return cell === null ? undefined : this.fix(panel, cell);
          }),
        isEnabled: () => this.failed !== null,
      },
      {
        id: "agent-magics:resume",
        label: trans.__("Resume Agent Session"),
        caption: trans.__("Follow the session's turn in a new cell, from its beginning"),
        execute: () =>
          this.inPanel((panel) => insertAndRun(panel, "%agent_session resume", this.isLoaded(panel))),
        isEnabled,
      },
    ];
  }

  private inTurn(): ICommand[] {
    const { links, trans } = this.context;
    const answer = (reply: Reply) => () => {
      const permission = links.state.permissions[0];
      return permission && attempt(this.context, (link) => link.answer(permission.id, reply));
    };
    const isAsked = () => links.state.permissions.length > 0;
    return [
      {
        id: "agent-magics:abort",
        label: trans.__("Abort Agent Turn"),
        caption: trans.__("Stop what the agent is doing; what has arrived is kept"),
        execute: () => attempt(this.context, (link) => link.request("abort")),
        isEnabled: () => links.state.status === "working" || links.state.status === "waiting",
        icon: abortIcon,
      },
      {
        id: "agent-magics:allow-once",
        label: trans.__("Agent Permission: Allow Once"),
        caption: trans.__("Allow what the agent asks for, this time"),
        execute: answer("once"),
        isEnabled: isAsked,
      },
      {
        id: "agent-magics:allow-always",
        label: trans.__("Agent Permission: Always Allow"),
        caption: trans.__("Allow what the agent asks for, for the rest of the session"),
        execute: answer("always"),
        isEnabled: () => !!links.state.permissions[0]?.always,
      },
      {
        id: "agent-magics:reject",
        label: trans.__("Agent Permission: Reject"),
        caption: trans.__("Refuse what the agent asks for"),
        execute: answer("reject"),
        isEnabled: isAsked,
      },
      {
        id: "agent-magics:show-panel",
        label: trans.__("Show Agent Panel"),
        caption: trans.__("Show the session, its plan, files and open questions"),
        execute: this.showPanel,
        icon: agentIcon,
      },
    ];
  }

  private add({ id, ...command }: ICommand): void {
    this.ids.push(id);
    this.context.app.commands.addCommand(id, { ...command, describedBy: ARGS });
  }

  private runSelection(panel: NotebookPanel): Promise<void> | undefined {
    const prompt = promptOfSelection(panel);
    return prompt ? insertAndRun(panel, prompt, this.isLoaded(panel)) : undefined;
  }

  private inPanel(work: (panel: NotebookPanel) => unknown): unknown {
    return this.panel === null ? undefined : work(this.panel);
  }

  private isLoaded(panel: NotebookPanel): boolean {
    return this.context.links.of(panel)?.isAttached ?? false;
  }

  private get panel(): NotebookPanel | null {
    return this.tracker.currentWidget;
  }

  /** The active cell, if it has failed. */
  private get failed(): CodeCell | null {
    const cell = this.panel?.content.activeCell;
    return cell instanceof CodeCell && errorOf(cell) !== null ? cell : null;
  }

  private readonly ids: string[] = [];
}
