/** What the kernel sends and takes; `agent_magics/notebook/_hub/` is the other side. */

export const REQUEST = "agent_magics_request";
export const TARGET = "agent_magics";

/** The folder of the container whose listing is part of the state. */
export const HOME = "/workspace";

/** How an agent may be answered. */
export type Reply = "once" | "always" | "reject";

export type Status = "off" | "none" | "ready" | "working" | "waiting" | "error";

export interface ISession {
  id: string;
  title: string;
  model: string;
  agent: string;
  sandbox: string;
  isolated: boolean;
  error: string;
}

export interface IBlock {
  label: string;
  text: string;
  kind: string;
}

export interface IPermission {
  id: string;
  title: string;
  blocks: IBlock[];
  /** The scope of an "always"; empty when there is none. */
  always: string;
}

export interface ITodo {
  content: string;
  status: string;
}

export interface IMetrics {
  messages: number;
  toolCalls: number;
  tokens: number;
  cost: number | null;
  contextUsed: number | null;
  contextLimit: number | null;
}

/** Tokens and cost of one turn. */
export interface ITurnUsage {
  tokens: number;
  cost: number | null;
}

export interface IArtifact {
  key: string;
  name: string;
  description: string;
  mime: string;
  size: number;
}

export interface IFile {
  path: string;
  name: string;
  kind: string;
  size: number;
}

export interface IListing {
  entries: IFile[];
  more: number;
}

export interface IAgentState {
  status: Status;
  session: ISession | null;
  sessions: { id: string; title: string }[];
  todos: ITodo[];
  metrics: IMetrics | null;
  history: ITurnUsage[];
  artifacts: IArtifact[];
  permissions: IPermission[];
  /** Grows whenever files may have changed. */
  files: number;
  /** The files in `HOME`. */
  listing: IListing;
  problem: string;
}

/** The state of a notebook whose kernel has no agent magics. */
export const OFF: IAgentState = {
  status: "off",
  session: null,
  sessions: [],
  todos: [],
  metrics: null,
  history: [],
  artifacts: [],
  permissions: [],
  files: 0,
  listing: { entries: [], more: 0 },
  problem: "",
};

const MENTION = /^\s*%{1,2}agent|\bagent_magics\b/m;
const AGENT_CELL = /^%%agent(?!\w)/;

/** Whether code has to do with the agent magics, so that the kernel may be asked for them. */
export function mentionsAgent(source: string): boolean {
  return MENTION.test(source);
}

/** Whether a cell is a prompt. */
export function isAgentCell(source: string): boolean {
  return AGENT_CELL.test(source);
}
