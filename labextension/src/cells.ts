import type { CodeCell, ICodeCellModel } from "@jupyterlab/cells";
import { NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { fenced, withoutColours } from "./format";
import { isAgentCell, mentionsAgent } from "./protocol";

const LOAD = "%load_ext agent_magics";
const LONGEST = 20_000;

/** Insert a code cell below the active one, and make it the active one. */
export function insertBelow(panel: NotebookPanel, source: string): void {
  const notebook = panel.content;
  NotebookActions.insertBelow(notebook);
  NotebookActions.changeCellType(notebook, "code");
  notebook.activeCell?.model.sharedModel.setSource(source);
}

/** The same, with the cursor in a line of it. */
export function insertToEdit(panel: NotebookPanel, source: string, line: number): void {
  insertBelow(panel, source);
  const cell = panel.content.activeCell;
  panel.content.mode = "edit";
  void cell?.ready.then(() => cell.editor?.setCursorPosition({ line, column: 0 }));
}

/** Insert a cell and run it; when nothing has loaded the magics, they are loaded first. */
export async function insertAndRun(panel: NotebookPanel, source: string, isLoaded: boolean): Promise<void> {
  if (!isLoaded) {
    insertBelow(panel, LOAD);
    await NotebookActions.run(panel.content, panel.sessionContext);
  }
  insertBelow(panel, source);
  await NotebookActions.run(panel.content, panel.sessionContext);
}

/** What is selected as an agent cell: code is sent as it stands, in prose variables may be named. */
export function promptOfSelection(panel: NotebookPanel): string {
  const text = selectedText(panel).trim();
  if (!text || isAgentCell(text)) {
    return text;
  }
  const model = panel.content.activeCell?.model;
  const isCode = model?.type === "code" && !isAgentCell(model.sharedModel.getSource());
  return `${isCode ? "%%agent --raw" : "%%agent"}\n${text}`;
}

/** The text that is selected in the active cell; the whole cell without a selection. */
function selectedText(panel: NotebookPanel): string {
  const cell = panel.content.activeCell;
  const source = cell?.model.sharedModel.getSource() ?? "";
  const editor = cell?.editor;
  if (!editor) {
    return source;
  }
  const { start, end } = editor.getSelection();
  const offsets = [editor.getOffsetAt(start), editor.getOffsetAt(end)].sort((a, b) => a - b);
  return source.slice(offsets[0], offsets[1]) || source;
}

/** A question about a cell, to be written in its second line. */
export function questionAbout(source: string): string {
  return `%%agent --raw\n\n\nAbout this cell of my notebook:\n${fenced(cut(source), "python")}`;
}

/** The failed cell with its error, for the agent to mend. */
export function fixPrompt(source: string, error: string): string {
  return [
    "%%agent --raw --code",
    "This cell of my notebook failed. Say in two or three sentences why, then give the whole corrected cell " +
      "as one block of Python. It runs in the notebook's own kernel; don't run it in your container.",
    "",
    fenced(cut(source), "python"),
    "",
    fenced(cut(error), "text"),
  ].join("\n");
}

/** The error that a cell shows, as text; null when it shows none, or one of the agent's own cells does. */
export function errorOf(cell: CodeCell): string | null {
  const { outputs, sharedModel } = cell.model as ICodeCellModel;
  if (mentionsAgent(sharedModel.getSource())) {
    return null;
  }
  for (let index = 0; index < outputs.length; index++) {
    const output = outputs.get(index).toJSON() as { output_type: string; traceback?: string[]; ename?: string };
    if (output.output_type === "error") {
      return withoutColours((output.traceback ?? []).join("\n")) || String(output.ename ?? "");
    }
  }
  return null;
}

function cut(text: string): string {
  const half = LONGEST / 2;
  return text.length <= LONGEST ? text : `${text.slice(0, half)}\n[...]\n${text.slice(-half)}`;
}
