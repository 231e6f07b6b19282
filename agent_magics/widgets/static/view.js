// The model's operations, and the views that are drawn from them.

import { DRAW } from './draw.js';
import { duration, element, stopwatch } from './page.js';

/** @typedef {import('./page.js').Model} Model */
/** @typedef {import('./page.js').Op} Op */

// No page's typesetter looks for formulas here.
const NOT_TYPESET = 'mathjax_ignore tex2jax_ignore asciimath2jax_ignore';

/** One per model: hears everything from the model's birth and outlives its views. */
export class Store {
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

export class View {
  /**
   * @param {Store} store
   * @param {HTMLElement} host
   */
  constructor(store, host) {
    this.store = store;
    this.root = element('div', `agent-turn ${NOT_TYPESET}`);
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
