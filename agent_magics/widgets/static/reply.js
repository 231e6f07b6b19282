// What the agent says and thinks.

import { element } from './page.js';
import { safe } from './safe.js';

/** @typedef {import('./page.js').Op} Op */

export const CHUNK = 16000; // characters that the page lays out, or passes over, as one

/** A text of the agent: finished blocks, in chunks, and the one that still grows. */
export class Reply {
  constructor() {
    this.root = element('div', 'agent-text');
    this.open = element('div', 'agent-open');
    this.root.append(this.open);
    this.html = '';
    this.length = 0;
    this.room = 0;
    /** @type {HTMLElement | null} */
    this.chunk = null;
  }

  /** @param {Op} op */
  draw(op) {
    if (op.add !== undefined) {
      this.html = this.html.slice(0, op.keep) + op.add;
      if (op.done) {
        this.finish(this.html.slice(0, op.done));
        this.html = this.html.slice(op.done);
      }
      this.open.replaceChildren(safe(this.html));
    }
    if (op.tail !== undefined) {
      this.open.replaceChildren(op.tail);
    }
    if (op.more) {
      this.open.append(op.more);
    }
  }

  /** @param {string} html of blocks that will not change any more */
  finish(html) {
    if (!this.chunk || this.room <= 0) {
      this.chunk = element('div', 'agent-chunk');
      this.room = CHUNK;
      this.open.before(this.chunk);
    }
    this.room -= html.length;
    this.length += html.length;
    this.root.classList.toggle('agent-long', this.length > 4 * CHUNK);
    const made = element('div');
    made.append(safe(html));
    this.chunk.append(made);
  }
}

export function newThought() {
  const root = element('details', 'agent-thought');
  const body = element('div', 'agent-open');
  root.append(element('summary', '', 'Reasoning'), body);
  return { root, body };
}
