// Tool calls with their input and output.

import { copyable, duration, element, grouped, stopwatch } from './page.js';
import { CHUNK } from './reply.js';

/** @typedef {import('./page.js').Block} Block */
/** @typedef {import('./page.js').Op} Op */

const OUTPUT_SHOWN = 1000000; // characters of a call's output in the page
const FOLDED = 14; // lines of output that are shown without a click

/** A tool call. */
export class Tool {
  constructor() {
    this.root = element('details', 'agent-card');
    this.summary = element('summary');
    this.input = element('div');
    this.output = new Output();
    this.root.append(this.summary, this.input, this.output.root);
    this.touched = false;
    this.summary.addEventListener('click', () => (this.touched = true));
    this.tick = () => {};
  }

  /** @param {Op} op */
  draw(op) {
    const running = op.status === 'pending' || op.status === 'running';
    const facts = element('span', 'agent-facts', op.facts);
    const mark = element('span', 'agent-mark', op.mark);
    mark.setAttribute('aria-hidden', 'true');
    const title = element('span', 'agent-tool', op.title);
    title.title = op.title;
    this.summary.replaceChildren(mark, element('b', '', op.tool), title, facts);
    this.root.classList.toggle('agent-done', op.status === 'completed' && !op.warn);
    this.root.classList.toggle('agent-warned', op.warn);
    this.root.classList.toggle('agent-failed', op.status === 'error');
    this.root.classList.toggle('agent-running', running);
    this.input.replaceChildren();
    addBlocks(this.input, op.input);
    if (op.result !== undefined) {
      this.output.clear();
      this.output.append(op.result);
    }
    if (!this.touched) {
      this.root.open = op.status === 'running' || op.status === 'error';
    }
    const passed = stopwatch();
    this.tick = () => {
      const seconds = Math.floor(passed());
      if (op.status === 'running' && seconds) {
        facts.textContent = `${op.facts} · ${duration(seconds)}`;
      }
    };
  }
}

/** Output of a call: all of it in the page, the most of a long one folded away. */
class Output {
  constructor() {
    this.pre = element('pre', 'agent-output');
    this.pre.tabIndex = 0;
    this.pre.setAttribute('role', 'group');
    this.pre.setAttribute('aria-label', 'Output');
    this.fold = element('button', 'agent-fold');
    this.fold.type = 'button';
    this.fold.addEventListener('click', () => {
      this.pre.classList.toggle('agent-unfolded');
      this.label();
    });
    this.root = copyable(this.pre, 'output');
    this.root.append(this.fold);
    this.length = this.lines = 0;
    this.clear();
  }

  clear() {
    this.pre.replaceChildren();
    this.root.hidden = this.fold.hidden = true;
    this.length = this.lines = 0;
  }

  /**
   * Append `text` and stay at the end if that is what is on the screen.
   * @param {string} text
   * @param {number} [back] characters to take away from the end first
   */
  append(text, back = 0) {
    const pre = this.pre;
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
    this.take(back);
    this.lines += text.split('\n').length - 1;
    this.length += text.length;
    for (let at = 0; at < text.length; ) {
      const chunk = this.chunk();
      const room = Math.max(0, CHUNK - chunk.length);
      const end = text.indexOf('\n', Math.min(at + room, text.length - 1)); // chunks end with a line
      const next = end < 0 ? text.length : end + 1;
      chunk.appendData(text.slice(at, next));
      at = next;
    }
    while (this.length > OUTPUT_SHOWN && pre.childNodes.length > 1) {
      this.length -= pre.firstChild?.textContent?.length || 0;
      pre.firstChild?.remove();
    }
    this.root.hidden = !this.length;
    this.label();
    if (atEnd) {
      pre.scrollTop = pre.scrollHeight;
    }
  }

  /** @returns {CharacterData} where more text goes */
  chunk() {
    /** @type {any} */
    let text = this.pre.lastChild?.firstChild;
    if (!text || (text.length >= CHUNK && text.data.endsWith('\n'))) {
      text = document.createTextNode('');
      const box = element('span', 'agent-chunk');
      box.append(text);
      this.pre.append(box);
    }
    return text;
  }

  /** @param {number} back */
  take(back) {
    this.length -= back;
    while (back > 0 && this.pre.lastChild) {
      /** @type {any} */
      const text = this.pre.lastChild.firstChild;
      const cut = Math.min(back, text.length);
      this.lines -= text.data.slice(text.length - cut).split('\n').length - 1;
      text.deleteData(text.length - cut, cut);
      back -= cut;
      if (!text.length) {
        this.pre.lastChild.remove();
      }
    }
  }

  label() {
    const open = this.pre.classList.contains('agent-unfolded');
    /** @type {any} */
    const last = this.pre.lastChild?.firstChild;
    const lines = this.lines + Number(!last?.data.endsWith('\n'));
    this.fold.hidden = lines <= FOLDED;
    this.fold.textContent = open ? 'Show fewer lines' : `Show all ${grouped(lines)} lines`;
    this.fold.setAttribute('aria-expanded', String(open));
  }
}

/**
 * @param {Element} parent
 * @param {Block[]} blocks
 */
export function addBlocks(parent, blocks) {
  for (const block of blocks) {
    if (block.label) {
      parent.append(element('div', 'agent-label', block.label));
    }
    if (block.kind === 'line') {
      parent.append(element('div', 'agent-line', block.text));
    } else if (block.kind === 'words') {
      parent.append(element('div', '', block.text));
    } else {
      const pre = element('pre');
      if (block.kind === 'diff') {
        addDiff(pre, block.text);
      } else {
        pre.textContent = block.text;
      }
      parent.append(copyable(pre));
    }
  }
}

/**
 * A unified diff, a row for each line, with the line's number in the new (or else the old) file.
 * The signs stay: colours are not for everybody.
 * @param {Element} pre
 * @param {string} text
 */
function addDiff(pre, text) {
  /** @type {Record<string, string>} */
  const kinds = { '+': 'agent-added', '-': 'agent-removed', '@': 'agent-place' };
  let before = 0;
  let after = 0;
  pre.className = 'agent-diff';
  for (const line of text.split('\n')) {
    const row = element('span', kinds[line[0]] || '', `${line}\n`);
    const place = line.match(/^@@ -(\d+)\S* \+(\d+)/);
    if (place) {
      [before, after] = [Number(place[1]), Number(place[2])];
    } else if (after) {
      row.dataset.number = String(line[0] === '-' ? before : after);
      before += Number(line[0] !== '+');
      after += Number(line[0] !== '-');
    }
    pre.append(row);
  }
}
