// What each operation does to a view.

import { Ask } from './ask.js';
import { element } from './page.js';
import { Reply, newThought } from './reply.js';
import { Tool } from './tool.js';

/** @typedef {import('./page.js').Op} Op */
/** @typedef {import('./view.js').View} View */

const TODO_STATES = new Set(['pending', 'in_progress', 'completed', 'cancelled']);

/** @type {Record<string, (view: View, op: Op) => void>} */
export const DRAW = {
  head: (view, op) => view.drawHead(op),
  facts: (view, op) => view.drawFacts(op),
  text: (view, op) => view.part(op.id, () => new Reply()).draw(op),
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
