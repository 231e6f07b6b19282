// Permission requests.

import { element, stopwatch } from './page.js';
import { addBlocks } from './tool.js';

/** @typedef {import('./page.js').Op} Op */
/** @typedef {import('./view.js').View} View */

const DELIVERY_TIME = 5000; // ms until an unconfirmed answer is called that

/** A permission request with its buttons. */
export class Ask {
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
