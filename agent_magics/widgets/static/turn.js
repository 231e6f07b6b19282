// The front end's half of TurnWidget. Agent text reaches the page in two ways only: as text nodes,
// and as HTML that Python rendered from Markdown and that `safe` rebuilds from an allow-list.
// The files beside this one are its parts; `_script.py` joins them for the page.

import { Store, View } from './view.js';

/** @typedef {import('./page.js').Model} Model */

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
