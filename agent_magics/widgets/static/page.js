// Small things that the other files build the page from.

/** @typedef {{op: string, [key: string]: any}} Op */
/** @typedef {{label: string, text: string, kind: string}} Block */
/** @typedef {{get: (name: string) => any, on: Function, off: Function, send: Function,
 *   widget_manager?: any}} Model */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [name]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, name, text) {
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
export function stopwatch() {
  const start = performance.now();
  return () => (performance.now() - start) / 1000;
}

/** @param {number} number */
export function grouped(number) {
  return number.toLocaleString('en').replaceAll(',', '\u202f');
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) {
    return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  }
  const rest = String(Math.floor(seconds % 60)).padStart(2, '0');
  return `${Math.floor(seconds / 60)} min ${rest} s`;
}

/**
 * `pre` with a button that copies its text.
 * @param {HTMLPreElement} pre
 * @param {string} [what]
 */
export function copyable(pre, what = 'code') {
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
