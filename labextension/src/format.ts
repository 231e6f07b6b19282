import type { TranslationBundle } from "@jupyterlab/translation";
import type { IPermission, Status } from "./protocol";

/** Characters of a message that JupyterLab shows before it cuts it. */
const LONGEST_MESSAGE = 140;
const UNITS = ["kB", "MB", "GB"];

/** 512 B, 1.5 kB, 20 MB. */
export function sizeText(bytes: number): string {
  if (bytes < 1000) {
    return `${bytes} B`;
  }
  let value = bytes;
  let unit = "";
  for (unit of UNITS) {
    value /= 1000;
    if (value < 999.5) {
      break;
    }
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** 950, 12.3k, 4.5M. */
export function countText(count: number): string {
  if (count < 1000) {
    return String(count);
  }
  return count < 999_950 ? `${trimmed(count / 1000)}k` : `${trimmed(count / 1_000_000)}M`;
}

function trimmed(value: number): string {
  return value < 99.95 ? value.toFixed(1) : String(Math.round(value));
}

/** US dollars; small amounts keep their digits, a price that nobody knows is a dash. */
export function costText(cost: number | null): string {
  if (cost === null) {
    return "–";
  }
  return `$${cost === 0 || cost >= 1 ? cost.toFixed(2) : cost.toFixed(4)}`;
}

/** The parent of a folder of the container. */
export function parentOf(path: string): string {
  const cut = path.replace(/\/+$/, "").lastIndexOf("/");
  return cut <= 0 ? "/" : path.slice(0, cut);
}

/** A file below a folder. */
export function joined(folder: string, name: string): string {
  return `${folder.replace(/\/+$/, "")}/${name}`;
}

/** What the agent does, in a word or two. */
export function statusText(status: Status, trans: TranslationBundle): string {
  switch (status) {
    case "ready":
      return trans.__("ready");
    case "working":
      return trans.__("working");
    case "waiting":
      return trans.__("waiting for you");
    case "error":
      return trans.__("failed");
    case "none":
      return trans.__("no session");
    default:
      return trans.__("not loaded");
  }
}

/** A question in a line, and where there is room its notebook; `isWhole`: nothing of it is left out. */
export function summary(notebook: string, { title, blocks }: IPermission): { text: string; isWhole: boolean } {
  const details = blocks.map((block) => block.text).join(" · ");
  const question = details ? `${title}: ${details}` : title;
  if (question.length > LONGEST_MESSAGE || details.includes("\n")) {
    return { text: `${question.slice(0, LONGEST_MESSAGE - 1)}…`, isWhole: false };
  }
  const text = `${question} (${notebook})`;
  return { text: text.length > LONGEST_MESSAGE ? question : text, isWhole: true };
}

/** Text without the sequences that colour a traceback. */
export function withoutColours(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/\x1b\[[0-9;]*m/g, "");
}

/** A code block of Markdown that nothing in it can end. */
export function fenced(text: string, language: string): string {
  let fence = "```";
  while (text.includes(fence)) {
    fence += "`";
  }
  return `${fence}${language}\n${text}\n${fence}`;
}
