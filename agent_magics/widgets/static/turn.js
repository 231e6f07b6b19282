// The front end's half of TurnWidget. Agent text reaches the page in two ways only: as text nodes,
// and as HTML that Python rendered from Markdown and that `safe` rebuilds from an allow-list.

const TAGS = new Set(
  ('P BR HR STRONG B EM I S DEL CODE PRE BLOCKQUOTE UL OL LI H1 H2 H3 H4 H5 H6 ' +
    'TABLE THEAD TBODY TR TH TD A SPAN VAR').split(' ')
);
const OUTPUT_SHOWN = 1000000; // characters of a call's output in the page
const CHUNK = 16000; // characters that the page lays out, or passes over, as one
const FOLDED = 14; // lines of output that are shown without a click
const ROWS = 1000; // rows of a table, items of a list that are shown without a click
const SHORT_CELL = 28; // characters of a table's cell that are not broken into lines
const DELIVERY_TIME = 5000; // ms until an unconfirmed answer is called that

/** @typedef {{op: string, [key: string]: any}} Op */
/** @typedef {{label: string, text: string, kind: string}} Block */
/** @typedef {{get: (name: string) => any, on: Function, off: Function, send: Function,
 *   widget_manager?: any}} Model */

/**
 * @param {Node} from
 * @param {Node} to
 */
function rebuild(from, to) {
  let rows = /^(TBODY|UL|OL)$/.test(to.nodeName) ? ROWS : Infinity;
  for (const node of from.childNodes) {
    if (node instanceof Element && (rows -= 1) < 0) {
      to.appendChild(moreRows(node, to.nodeName === 'TBODY' ? 'tr' : 'li'));
      return;
    }
    if (node.nodeType === Node.TEXT_NODE) {
      if (to instanceof DocumentFragment && !(node.textContent || '').trim()) {
        continue; // line ends between blocks
      }
      to.appendChild(document.createTextNode(node.textContent || ''));
    } else if (node instanceof Element && node.tagName === 'DATA') {
      paint(to, node.getAttribute('value') || '');
    } else if (node instanceof Element) {
      to.appendChild(rebuilt(node));
    }
  }
}

/**
 * A button in a row of its own that shows `first` and all that follow it.
 * @param {Element} first
 * @param {'tr' | 'li'} tag
 */
function moreRows(first, tag) {
  const rows = [first];
  for (let next = first.nextElementSibling; next; next = next.nextElementSibling) {
    rows.push(next);
  }
  const button = element('button', 'agent-fold', `Show ${grouped(rows.length)} more rows`);
  button.type = 'button';
  const row = element(tag);
  const box = tag === 'tr' ? element('td', 'agent-cell') : row;
  if (box instanceof HTMLTableCellElement) {
    box.colSpan = 1000;
    row.append(box);
  }
  box.append(button);
  button.addEventListener('click', () => row.replaceWith(...rows.map(rebuilt)));
  return row;
}

/**
 * Colours for the code in `pre`: `6k4 12s` is six characters of a keyword, four plain, …
 * @param {Node} pre
 * @param {string} runs
 */
function paint(pre, runs) {
  const code = pre instanceof HTMLPreElement && pre.querySelector('code');
  if (!code || !/^(\d+[bcdfkms ])+$/.test(runs)) {
    return;
  }
  const text = code.textContent || '';
  const pieces = [];
  let at = 0;
  for (const [, length, kind] of runs.matchAll(/(\d+)(.)/g)) {
    const piece = text.slice(at, (at += Number(length)));
    pieces.push(kind === ' ' ? piece : element('span', `agent-code-${kind}`, piece));
  }
  if (at === text.length) {
    code.replaceChildren(...pieces);
  }
}

/**
 * `pre` with a button that copies its text.
 * @param {HTMLPreElement} pre
 * @param {string} [what]
 */
function copyable(pre, what = 'code') {
  const box = element('div', 'agent-copyable');
  const button = element('button', 'agent-copy', 'Copy');
  button.type = 'button';
  button.title = `Copy this ${what}`;
  button.addEventListener('click', async () => {
    button.textContent = await copy(pre);
    window.setTimeout(() => (button.textContent = 'Copy'), 2000);
  });
  box.append(pre, button);
  return box;
}

/**
 * Copy the text of `from`; what to say about it. Where a page may not write to the clipboard, its
 * text is selected: the old command, or the reader's own keys, copy that.
 * @param {Element} from
 */
async function copy(from) {
  try {
    await navigator.clipboard.writeText(from.textContent || '');
    return 'Copied';
  } catch {
    window.getSelection()?.selectAllChildren(from);
    return document.execCommand('copy') ? 'Copied' : 'Press Ctrl+C';
  }
}

/**
 * @param {Element} from
 * @returns {Node}
 */
function rebuilt(from) {
  if (!TAGS.has(from.tagName)) {
    return document.createTextNode(from.textContent || '');
  }
  const made = document.createElement(from.tagName);
  if (made instanceof HTMLAnchorElement) {
    const address = from.getAttribute('href') || '';
    if (/^(https?:\/\/|mailto:)/i.test(address)) {
      made.href = address;
      made.target = '_blank';
      made.rel = 'noopener noreferrer nofollow';
      made.title = address;
    }
  }
  const start = from.getAttribute('start') || '';
  if (made instanceof HTMLOListElement && /^\d{1,9}$/.test(start)) {
    made.start = Number(start);
  }
  const align = (from.getAttribute('style') || '').match(/^text-align:(left|right|center)$/);
  if (made instanceof HTMLTableCellElement) {
    if (align) {
      made.style.textAlign = align[1];
    }
    const short = (from.textContent || '').length <= SHORT_CELL;
    made.className = short ? 'agent-cell' : 'agent-cell agent-wide';
  }
  if (made.tagName === 'VAR') {
    return formula(from.textContent || '');
  }
  rebuild(from, made);
  if (made instanceof HTMLTableElement) {
    return scrollable(made);
  }
  return made instanceof HTMLPreElement ? copyable(made) : made;
}

/**
 * TeX as it is written, for a typesetter to find.
 * @param {string} source
 */
function formula(source) {
  const block = source.startsWith('$$') ? ' agent-formula-block' : '';
  return element('span', `agent-formula mathjax_process${block}`, source);
}

/**
 * A wide table scrolls by itself, by keyboard as well.
 * @param {HTMLTableElement} table
 */
function scrollable(table) {
  const box = element('div', 'agent-table');
  box.tabIndex = 0;
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', 'Table');
  box.append(table);
  return box;
}

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
function safe(html) {
  const fragment = document.createDocumentFragment();
  // A parsed document is inert: nothing in it loads or runs.
  rebuild(new DOMParser().parseFromString(html, 'text/html').body, fragment);
  return fragment;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [name]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) {
    made.className = name;
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

/** @returns {() => number} seconds since now */
function stopwatch() {
  const start = performance.now();
  return () => (performance.now() - start) / 1000;
}

/** @param {number} number */
function grouped(number) {
  return number.toLocaleString('en').replaceAll(',', '\u202f');
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 60) {
    return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  }
  const rest = String(Math.floor(seconds % 60)).padStart(2, '0');
  return `${Math.floor(seconds / 60)} min ${rest} s`;
}

/**
 * @param {Element} parent
 * @param {Block[]} blocks
 */
function addBlocks(parent, blocks) {
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

/** One per model: hears everything from the model's birth and outlives its views. */
class Store {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.next = 0;
    /** @type {Op[]} */
    this.ops = [];
    /** @type {Set<View>} */
    this.views = new Set();
    /** @type {any} */
    const manager = model.widget_manager;
    this.typesetter = manager?.rendermime?.latexTypesetter;
    model.on('msg:custom', (/** @type {any} */ message) => this.receive(message));
  }

  /** @param {{n: number, ops: Op[], reset?: boolean}} message */
  receive(message) {
    if (!message || !Array.isArray(message.ops)) {
      return;
    }
    if (message.reset) {
      this.ops = [];
      for (const view of this.views) {
        view.clear();
      }
    } else if (message.n !== this.next) {
      if (message.n > this.next) {
        this.resync();
      }
      return;
    }
    this.next = message.n + 1;
    this.ops.push(...message.ops);
    for (const view of this.views) {
      view.apply(message.ops);
    }
  }

  /** Ask for everything that was missed. */
  resync() {
    this.model.send({ kind: 'hello', next: this.next });
  }

  /**
   * Have the page's typesetter set the formulas in `box`, if it has one.
   * @param {Element} box
   */
  async typeset(box) {
    /** @type {any} */
    const page = window;
    try {
      if (this.typesetter) {
        await this.typesetter.typeset(box);
      } else {
        await page.MathJax?.typesetPromise?.([box]);
      }
    } catch (error) {
      console.warn('agent-magics: formulas stay as TeX', error);
    }
  }
}

class View {
  /**
   * @param {Store} store
   * @param {HTMLElement} host
   */
  constructor(store, host) {
    this.store = store;
    this.root = element('div', 'agent-turn');
    this.head = element('div', 'agent-head');
    this.facts = element('span', 'agent-all-facts');
    this.log = element('div', 'agent-log');
    this.log.setAttribute('role', 'log');
    this.log.setAttribute('aria-label', "The agent's turn");
    this.log.setAttribute('aria-live', 'off'); // not every word
    this.news = element('div', 'agent-news');
    this.news.setAttribute('role', 'status');
    this.root.append(this.head, this.log, this.news);
    host.append(this.root);
    /** @type {Map<string, any>} */
    this.parts = new Map();
    this.tick = () => {};
    this.timer = window.setInterval(() => {
      this.tick();
      this.parts.forEach(part => part.tick?.());
    }, 1000);
    this.apply(store.ops);
  }

  clear() {
    for (const part of this.parts.values()) {
      part.dispose?.();
    }
    this.parts.clear();
    this.log.replaceChildren();
  }

  /** @param {Op[]} ops */
  apply(ops) {
    for (const op of ops) {
      const draw = DRAW[op.op];
      if (draw) {
        draw(this, op);
      }
    }
  }

  /**
   * The part with this key, made and put at the end of the transcript when it is new.
   * @param {string} key
   * @param {() => any} make an object with the element `root`
   */
  part(key, make) {
    let part = this.parts.get(key);
    if (!part) {
      part = make();
      this.parts.set(key, part);
      this.log.append(part.root);
    }
    return part;
  }

  /** @param {string} text */
  say(text) {
    if (this.news.textContent !== text) {
      this.news.textContent = text;
    }
  }

  /** @param {Op} op */
  drawFacts(op) {
    this.facts.replaceChildren(
      ...op.facts.map((/** @type {string} */ fact) => element('span', 'agent-fact', fact))
    );
  }

  /** @param {Op} op */
  drawHead(op) {
    const state = /^[a-z]+$/.test(op.state) ? op.state : 'busy';
    const dot = element('span', `agent-dot agent-is-${state}`);
    dot.setAttribute('aria-hidden', 'true');
    const status = element('span', 'agent-status', op.status);
    const wait = element('span', 'agent-wait');
    const clock = element('span', 'agent-clock');
    clock.title = 'Time so far';
    this.head.replaceChildren(dot, status, wait, clock, this.facts);
    this.drawFacts(op);
    if (op.model) {
      const model = element('span', 'agent-fact agent-model', op.model);
      model.title = op.session ? `Session ${op.session}` : '';
      this.head.append(model);
    }
    if (!op.isolated) {
      const badge = element('span', 'agent-badge', 'not isolated');
      badge.title = 'No container: commands run on this computer, as you.';
      this.head.append(badge);
    }
    const passed = stopwatch();
    this.tick = () => {
      const left = op.retryIn === null ? 0 : op.retryIn - passed();
      wait.textContent = left > 0 ? `in ${Math.ceil(left)} s` : '';
      clock.textContent = duration(op.elapsed + (op.running ? passed() : 0));
    };
    this.tick();
    if (!op.running) {
      window.clearInterval(this.timer);
    }
    this.log.setAttribute('aria-busy', String(op.running));
    if (op.state === 'waiting' || op.state === 'retry' || !op.running) {
      this.say(`Agent: ${op.status}`);
    }
  }

  dispose() {
    window.clearInterval(this.timer);
    this.clear();
    this.store.views.delete(this);
  }
}

/** A text of the agent: finished blocks, in chunks, and the one that still grows. */
class Reply {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
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
      if (op.final) {
        this.typeset(this.open);
      }
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
    this.typeset(made);
  }

  /** @param {Element} box */
  typeset(box) {
    if (box.querySelector('.agent-formula')) {
      box.classList.add('mathjax_ignore'); // all but the formulas, whatever it looks like
      void this.store.typeset(box);
    }
  }
}

function newThought() {
  const root = element('details', 'agent-thought');
  const body = element('div', 'agent-open');
  root.append(element('summary', '', 'Reasoning'), body);
  return { root, body };
}

/** A tool call. */
class Tool {
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

/** A permission request with its buttons. */
class Ask {
  /**
   * @param {View} view
   * @param {Op} op
   */
  constructor(view, op) {
    this.op = op;
    this.model = view.store.model;
    this.timer = 0;
    /** @type {object | null} */
    this.sent = null;
    this.root = element('div', 'agent-card agent-ask');
    this.root.setAttribute('role', 'group');
    this.root.setAttribute('aria-label', op.title);
    this.title = element('div', 'agent-title', op.title);
    this.body = element('div');
    addBlocks(this.body, op.blocks);
    this.row = element('div', 'agent-buttons');
    this.reason = element('input', 'agent-reason');
    this.delivery = element('div', 'agent-delivery');
    this.delivery.setAttribute('role', 'status');
    this.deadline = element('div', 'agent-deadline');
    this.passed = stopwatch();
    this.addButtons();
    this.root.append(this.title, this.body, this.row, this.deadline);
    this.tick();
  }

  tick() {
    if (typeof this.op.left === 'number') {
      const left = Math.max(0, Math.ceil(this.op.left - this.passed()));
      const minutes = left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`;
      this.deadline.textContent = `Rejected in ${minutes} if nobody answers.`;
    }
  }

  addButtons() {
    for (const [reply, label] of [
      ['once', 'Allow once'],
      ['always', this.op.always],
      ['reject', 'Reject']
    ]) {
      if (label) {
        const button = element('button', `agent-${reply}`, label);
        button.type = 'button';
        button.dataset.reply = reply;
        button.addEventListener('click', () => this.answer(reply));
        this.row.append(button);
      }
    }
    this.reason.type = 'text';
    this.reason.placeholder = 'Reason, if you reject (optional)';
    this.reason.setAttribute('aria-label', 'Reason for a rejection, optional');
    this.reason.maxLength = 2000;
    this.reason.addEventListener('keydown', event => {
      event.stopPropagation(); // Jupyter's shortcuts must not see what is typed here
      if (event.key === 'Enter') {
        this.answer('reject');
      }
    });
    this.row.append(this.reason, this.delivery);
  }

  /** @param {string} reply */
  answer(reply) {
    if (this.sent) {
      return;
    }
    if (this.root.closest('.jupyter-widgets-disconnected')) {
      this.delivery.textContent = 'The kernel is gone: nobody waits for this answer any more.';
      return;
    }
    const message = reply === 'reject' ? this.reason.value : undefined;
    this.sent = { kind: 'reply', id: this.op.id, reply, message };
    this.send();
  }

  send() {
    this.lock(true, 'Sending …');
    this.timer = window.setTimeout(() => this.unconfirmed(), DELIVERY_TIME);
    this.model.send(this.sent);
  }

  // The answer may still lie in a queue and would count before any other: it is this one or none.
  unconfirmed() {
    const again = element('button', '', 'Send again');
    again.type = 'button';
    again.addEventListener('click', () => this.send());
    this.delivery.replaceChildren('Not confirmed: the kernel has not taken this answer yet. ', again);
  }

  /** The kernel has the answer and passes it on. */
  taken() {
    this.sent = this.sent || {};
    this.lock(true, 'Sent.');
  }

  /** The answer got lost behind the kernel. */
  reopen() {
    this.sent = null;
    this.lock(false, 'The answer did not reach the agent. Please try again.');
  }

  /** @param {Op} op */
  settle(op) {
    this.dispose();
    const card = element('details', 'agent-card agent-answered');
    const summary = element('summary');
    const title = element('span', '', `${this.op.title}: `);
    title.append(element('b', op.allowed ? 'agent-good' : 'agent-bad', op.text));
    summary.append(title);
    card.append(summary, this.body);
    this.root.className = '';
    this.root.replaceChildren(card);
  }

  /**
   * @param {boolean} locked
   * @param {string} text
   */
  lock(locked, text) {
    window.clearTimeout(this.timer);
    for (const control of this.row.children) {
      if (control instanceof HTMLButtonElement || control instanceof HTMLInputElement) {
        control.disabled = locked;
      }
    }
    this.delivery.textContent = text;
  }

  dispose() {
    window.clearTimeout(this.timer);
  }
}

const TODO_STATES = new Set(['pending', 'in_progress', 'completed', 'cancelled']);

/** @type {Record<string, (view: View, op: Op) => void>} */
const DRAW = {
  head: (view, op) => view.drawHead(op),
  facts: (view, op) => view.drawFacts(op),
  text: (view, op) => view.part(op.id, () => new Reply(view.store)).draw(op),
  think: (view, op) => view.part(op.id, newThought).body.append(op.more),
  tool: (view, op) => view.part(op.id, () => new Tool()).draw(op),
  output: (view, op) => view.part(op.id, () => new Tool()).output.append(op.more, op.back),
  todos: (view, op) => {
    const part = view.part('todos', () => {
      const root = element('ul', 'agent-card agent-todos');
      root.setAttribute('aria-label', 'Plan');
      return { root };
    });
    part.root.replaceChildren(
      ...op.todos.map((/** @type {any} */ todo) => {
        const state = TODO_STATES.has(todo.status) ? todo.status : 'pending';
        const item = element('li', `agent-todo-${state}`);
        const mark = element('span', 'agent-mark', todo.mark);
        mark.setAttribute('aria-label', todo.status);
        mark.setAttribute('role', 'img');
        item.append(mark, element('span', '', todo.text));
        return item;
      })
    );
  },
  ask: (view, op) => {
    view.part(`ask ${op.id}`, () => new Ask(view, op));
    view.say(op.title);
  },
  taken: (view, op) => view.parts.get(`ask ${op.id}`)?.taken(),
  reopen: (view, op) => view.parts.get(`ask ${op.id}`)?.reopen(),
  answered: (view, op) => {
    view.parts.get(`ask ${op.id}`)?.settle(op);
    view.say(op.text);
  },
  image: (view, op) => {
    const part = view.part(op.id, () => {
      const root = element('figure', 'agent-image');
      const image = element('img');
      root.append(image, element('figcaption', '', op.name));
      return { root, image };
    });
    part.image.alt = op.name;
    if (/^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,/.test(op.src)) {
      part.image.src = op.src;
    }
    view.log.append(part.root); // a newer version of an image comes last
  },
  note: (view, op) => {
    view.log.append(element('div', `agent-note agent-note-${op.kind}`, op.text));
    if (op.kind === 'error') {
      view.say(op.text);
    }
  }
};

export default () => {
  /** @type {Store | undefined} */
  let store;
  return {
    /** @param {{model: Model}} context */
    initialize({ model }) {
      store = new Store(model);
      store.resync();
    },
    /** @param {{model: Model, el: HTMLElement}} context */
    render({ model, el }) {
      store = store || new Store(model);
      const view = new View(store, el);
      store.views.add(view);
      model.send({ kind: 'ready' });
      return () => view.dispose();
    }
  };
};
