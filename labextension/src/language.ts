import { Language, LanguageSupport } from "@codemirror/language";
import type { ICellModel } from "@jupyterlab/cells";
import type { IEditorLanguageRegistry } from "@jupyterlab/codemirror";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { type Tag, tags } from "@lezer/highlight";
import { isAgentCell } from "./protocol";

/** The type of a cell that is a prompt. */
export const PROMPT_MIME = "text/x-agent-prompt";

/** The part of @lezer/markdown's parser that is in use; the parser itself is JupyterLab's. */
interface IMarkdownParser {
  configure(extension: {
    defineNodes: { name: string; block: boolean; style: Tag }[];
    parseBlock: {
      name: string;
      before: string;
      parse(context: IBlockContext, line: { text: string }): boolean;
    }[];
  }): Language["parser"];
}

interface IBlockContext {
  lineStart: number;
  addElement(element: unknown): void;
  elt(type: string, from: number, to: number): unknown;
  nextLine(): boolean;
}

/** Markdown whose first line is the magic. */
export function addPromptLanguage(languages: IEditorLanguageRegistry): void {
  languages.addLanguage({
    name: "agent-prompt",
    displayName: "Agent prompt",
    mime: PROMPT_MIME,
    load: async () => {
      const support = (await languages.getLanguage("ipythongfm"))?.support;
      if (!support) {
        throw new Error("JupyterLab has no Markdown language");
      }
      const markdown = support.language.parser as unknown as IMarkdownParser;
      const parser = markdown.configure({
        defineNodes: [{ name: "AgentMagic", block: true, style: tags.processingInstruction }],
        parseBlock: [{ name: "AgentMagic", before: "LinkReference", parse: parseMagic }],
      });
      const language = new Language(support.language.data, parser, [], "agent-prompt");
      return new LanguageSupport(language, support.support);
    },
  });
}

function parseMagic(context: IBlockContext, line: { text: string }): boolean {
  if (context.lineStart !== 0 || !isAgentCell(line.text)) {
    return false;
  }
  context.addElement(context.elt("AgentMagic", 0, line.text.length));
  context.nextLine();
  return true;
}

/** Give every code cell the type that its first line asks for, as long as `isOn()`. */
export class CellTypes {
  constructor(
    private readonly tracker: INotebookTracker,
    private readonly isOn: () => boolean,
  ) {
    tracker.widgetAdded.connect(this.add, this);
    tracker.forEach((panel) => this.add(tracker, panel));
  }

  /** Look at all cells again. */
  update(): void {
    this.tracker.forEach((panel) => this.scan(panel));
  }

  private add(_: unknown, panel: NotebookPanel): void {
    void panel.context.ready.then(() => {
      this.scan(panel);
      panel.content.model?.cells.changed.connect(() => this.scan(panel));
    });
  }

  private scan(panel: NotebookPanel): void {
    const cells = panel.content.model?.cells;
    for (let index = 0; index < (cells?.length ?? 0); index++) {
      const cell = cells!.get(index);
      if (cell.type !== "code") {
        continue;
      }
      const apply = () => this.apply(panel, cell);
      if (!this._watched.has(cell)) {
        this._watched.add(cell);
        cell.contentChanged.connect(apply);
        cell.mimeTypeChanged.connect(apply); // the notebook sets it when the kernel is ready
      }
      apply();
    }
  }

  private apply(panel: NotebookPanel, cell: ICellModel): void {
    const isPrompt = this.isOn() && isAgentCell(cell.sharedModel.getSource());
    if (isPrompt && cell.mimeType !== PROMPT_MIME) {
      cell.mimeType = PROMPT_MIME;
    } else if (!isPrompt && cell.mimeType === PROMPT_MIME) {
      cell.mimeType = panel.content.codeMimetype;
    }
  }

  private readonly _watched = new WeakSet<ICellModel>();
}
