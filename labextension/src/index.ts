import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { IEditorLanguageRegistry } from "@jupyterlab/codemirror";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { Commands } from "./commands";
import type { IContext } from "./context";
import { FixButtons } from "./fix";
import { addPromptLanguage, CellTypes } from "./language";
import { Links } from "./links";
import { Notifier } from "./notify";
import { AgentPanel } from "./panel";
import { Choices, PLUGIN } from "./settings";
import { StatusItem } from "./statusitem";

/** JupyterLab 4 and Notebook 7; what one of them lacks is left out. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: "The agent of the notebook: panel, status, commands, notifications, prompt cells.",
  autoStart: true,
  requires: [INotebookTracker, IEditorLanguageRegistry],
  optional: [ITranslator, ISettingRegistry, ICommandPalette, IStatusBar, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    languages: IEditorLanguageRegistry,
    translator: ITranslator | null,
    settings: ISettingRegistry | null,
    palette: ICommandPalette | null,
    statusBar: IStatusBar | null,
    labShell: ILabShell | null,
  ) => {
    const choices = new Choices();
    addPromptLanguage(languages);
    const types = new CellTypes(tracker, () => choices.highlight);
    choices.changed.connect(types.update, types);

    const trans = (translator ?? nullTranslator).load("agent_magics");
    const context: IContext = { app, links: new Links(tracker), trans };
    const panel = new AgentPanel(context);
    app.shell.add(panel, "right", { rank: 900, type: "Agent" });
    const showPanel = () => {
      labShell?.expandRight();
      app.shell.activateById(panel.id);
    };
    const showNotebook = (notebook: NotebookPanel) => {
      app.shell.activateById(notebook.id);
      showPanel();
    };
    const commands = new Commands(context, tracker, showPanel);
    if (palette !== null) {
      commands.list(palette);
    }
    if (statusBar !== null) {
      const item = new StatusItem(context, showPanel);
      statusBar.registerStatusItem("agent-magics:status", {
        item,
        align: "left",
        rank: 100,
        isActive: () => item.isActive,
        activeStateChanged: context.links.changed,
      });
    }
    new Notifier(context, choices, showNotebook);
    new FixButtons(context, choices, (notebook, cell) => commands.fix(notebook, cell));
    if (settings !== null) {
      void choices.follow(settings).catch((error) => console.warn("agent-magics: no settings", error));
    }
  },
};

export default plugin;
