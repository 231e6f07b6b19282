// The front end's half of TurnWidget. Agent text reaches the page in two ways only: as text nodes,
// and as HTML that Python rendered from Markdown and that `safe` rebuilds from an allow-list.

const TAGS = new Set(
  ('P BR HR STRONG B EM I S DEL CODE PRE BLOCKQUOTE UL OL LI H1 H2 H3 H4 H5 H6 ' +
    'TABLE THEAD TBODY TR TH TD A SPAN').split(' ')
);
const OUTPUT_SHOWN = 200000; // characters of live output in the page
const DELIVERY_TIME = 5000; // ms until an unconfirmed answer is called that

/** @typedef {{op: string, [key: string]: any}} Op */
/** @typedef {{label: string, text: string, kind: string}} Block */
/** @typedef {{get: (name: string) => any, on: Function, off: Function, send: Function}} Model */

/**
 * @param {Node} from
 * @param {Node} to
 */
function rebuild(from, to) {
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) {
      to.appendChild(document.createTextNode(node.textContent || ''));
    } else if (node instanceof Element && node.tagName === 'DATA') {
      paint(to, node.getAttribute('value') || '');
    } else if (node instanceof Element) {
      to.appendChild(rebuilt(node));
    }
  }
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
 */
function copyable(pre) {
  const box = element('div', 'agent-copyable');
  const button = element('button', 'agent-copy', 'Copy');
  button.type = 'button';
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent || '');
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Not allowed';
    }
    window.setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
  box.append(pre, button);
  return box;
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
  if (made instanceof HTMLTableCellElement && align) {
    made.style.textAlign = align[1];
  }
  rebuild(from, made);
  return made instanceof HTMLPreElement ? copyable(made) : made;
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
 * @param {Element} pre
 * @param {string} text
 */
function addDiff(pre, text) {
  /** @type {Record<string, string>} */
  const kinds = { '+': 'agent-added', '-': 'agent-removed', '@': 'agent-place' };
  for (const line of text.split('\n')) {
    pre.append(element('span', kinds[line[0]] || '', line), '\n');
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
    this.log = element('div', 'agent-log');
    this.log.setAttribute('role', 'log');
    this.log.setAttribute('aria-label', "The agent's turn");
    this.log.setAttribute('aria-live', 'off'); // not every word
    this.news = element('div', 'agent-news');
    this.news.setAttribute('role', 'status');
    this.root.append(this.head, this.log, this.news);
    host.append(this.root);
    this.timer = 0;
    /** @type {Map<string, any>} */
    this.parts = new Map();
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
  drawHead(op) {
    const state = /^[a-z]+$/.test(op.state) ? op.state : 'busy';
    const dot = element('span', `agent-dot agent-is-${state}`);
    dot.setAttribute('aria-hidden', 'true');
    const status = element('span', 'agent-status', op.status);
    const clock = element('span', 'agent-clock');
    this.head.replaceChildren(dot, status, clock);
    for (const fact of op.facts) {
      this.head.append(element('span', 'agent-fact', fact));
    }
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
    const seen = performance.now();
    const draw = () => {
      const passed = op.running ? (performance.now() - seen) / 1000 : 0;
      const left = op.retryIn === null ? 0 : op.retryIn - passed;
      const wait = left > 0 ? `, in ${Math.ceil(left)} s` : '';
      clock.textContent = duration(op.elapsed + passed) + wait;
    };
    draw();
    window.clearInterval(this.timer);
    if (op.running) {
      this.timer = window.setInterval(draw, 1000);
    }
    this.log.setAttribute('aria-busy', String(op.running));
    if (op.state === 'waiting' || !op.running) {
      this.say(`Agent: ${op.status}`);
    }
  }

  dispose() {
    window.clearInterval(this.timer);
    this.clear();
    this.store.views.delete(this);
  }
}

function newText() {
  const root = element('div', 'agent-text');
  const done = element('div');
  const open = element('div', 'agent-open');
  root.append(done, open);
  return { root, done, open, html: '' };
}

function newThought() {
  const root = element('details', 'agent-thought');
  const body = element('div', 'agent-open');
  root.append(element('summary', '', 'Reasoning'), body);
  return { root, body };
}

function newTool() {
  const root = element('details', 'agent-card');
  const summary = element('summary');
  const input = element('div');
  const output = element('pre', 'agent-output');
  output.tabIndex = 0;
  output.setAttribute('aria-label', 'Output');
  const box = copyable(output);
  box.hidden = true;
  root.append(summary, input, box);
  const part = { root, summary, input, output, box, length: 0, touched: false };
  summary.addEventListener('click', () => (part.touched = true));
  return part;
}

/**
 * @param {any} part
 * @param {number} back characters to take away from the end first
 * @param {string} text
 */
function appendOutput(part, back, text) {
  const pre = part.output;
  const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
  part.box.hidden = false;
  part.length += text.length - back;
  for (let left = back; left > 0 && pre.lastChild; ) {
    const last = pre.lastChild;
    const cut = Math.min(left, last.data.length);
    last.data = last.data.slice(0, last.data.length - cut);
    left -= cut;
    if (!last.data) {
      last.remove();
    }
  }
  if (text) {
    pre.append(text);
  }
  while (part.length > OUTPUT_SHOWN && pre.childNodes.length > 1) {
    part.length -= pre.firstChild.data.length;
    pre.firstChild.remove();
  }
  if (atEnd) {
    pre.scrollTop = pre.scrollHeight;
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
    this.addButtons();
    this.root.append(this.title, this.body, this.row);
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
    const summary = element('summary', '', `${this.op.title}: `);
    summary.append(element('b', op.allowed ? 'agent-good' : 'agent-bad', op.text));
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
  text: (view, op) => {
    const part = view.part(op.id, newText);
    if (op.add !== undefined) {
      part.html = part.html.slice(0, op.keep) + op.add;
      if (op.done) {
        part.done.append(safe(part.html.slice(0, op.done)));
        part.html = part.html.slice(op.done);
      }
      part.open.replaceChildren(safe(part.html));
    }
    if (op.tail !== undefined) {
      part.open.replaceChildren(op.tail);
    }
    if (op.more) {
      part.open.append(op.more);
    }
  },
  think: (view, op) => view.part(op.id, newThought).body.append(op.more),
  tool: (view, op) => {
    const part = view.part(op.id, newTool);
    const running = op.status === 'pending' || op.status === 'running';
    const facts = element('span', 'agent-facts', op.facts);
    const mark = element('span', 'agent-mark', op.mark);
    mark.setAttribute('aria-hidden', 'true');
    const title = element('span', 'agent-tool', op.title);
    part.summary.replaceChildren(facts, mark, element('b', '', op.tool), ' ', title);
    part.root.classList.toggle('agent-done', op.status === 'completed' && !op.warn);
    part.root.classList.toggle('agent-warned', op.warn);
    part.root.classList.toggle('agent-failed', op.status === 'error');
    part.root.classList.toggle('agent-running', running);
    part.input.replaceChildren();
    addBlocks(part.input, op.input);
    if (op.result !== undefined) {
      part.output.textContent = op.result;
      part.box.hidden = !op.result;
    }
    if (!part.touched) {
      part.root.open = op.status === 'running' || op.status === 'error';
    }
  },
  output: (view, op) => appendOutput(view.part(op.id, newTool), op.back, op.more),
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
