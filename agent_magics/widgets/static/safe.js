// The agent's Markdown: HTML that Python made of it, rebuilt from an allow-list.

import { copyable, element, grouped } from './page.js';

const TAGS = new Set(
  ('P BR HR STRONG B EM I S DEL CODE PRE BLOCKQUOTE UL OL LI H1 H2 H3 H4 H5 H6 ' +
    'TABLE THEAD TBODY TR TH TD A SPAN').split(' ')
);
// As in `_links.py`.
const LINK =
  /^(?:https?:\/\/[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?\.?(?::[0-9]{1,5})?(?:[/?#][!#-;=?-[\]_a-z~]*)?|mailto:[a-z0-9!#$&'*+/=?^_{|}~.-]{1,64}@[a-z0-9.-]{1,253}(?:\?[!#-;=?-[\]_a-z~]*)?)$/i;
const MATHML = 'http://www.w3.org/1998/Math/MathML';
// As in `_formulas.py`: the elements of a formula and their attributes.
/** @type {Record<string, string[]>} */
const FORMULA = {
  math: ['display'],
  mfrac: ['linethickness'],
  mi: ['mathvariant'],
  mn: [],
  mo: ['fence', 'form', 'largeop', 'maxsize', 'minsize', 'movablelimits', 'stretchy'],
  mover: ['accent'],
  mpadded: ['depth', 'height', 'width'],
  mphantom: [],
  mroot: [],
  mrow: ['class'],
  mspace: ['width'],
  msqrt: [],
  mstyle: ['displaystyle', 'scriptlevel'],
  msub: [],
  msubsup: [],
  msup: [],
  mtable: ['class', 'displaystyle'],
  mtd: ['class'],
  mtext: [],
  mtr: [],
  munder: ['accentunder'],
  munderover: []
};
const DEEPEST = 150; // elements of a formula in each other
const VALUE = /^(true|false|block|normal|prefix|infix|postfix|[0-2](\.[0-9]+)?em|[0-2])$/;
const CLASS =
  /^agent-(boxed|overline|underline|(left|center|right)(-lined)?(-ruled)?|equation-(left|right))$/;
const ROWS = 1000; // rows of a table, items of a list that are shown without a click
const SHORT_CELL = 28; // characters of a table's cell that are not broken into lines

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
 * @param {Element} from
 * @returns {Node}
 */
function rebuilt(from) {
  if (from.localName === 'math' && from.namespaceURI === MATHML) {
    return formula(from);
  }
  if (!TAGS.has(from.tagName)) {
    return document.createTextNode(from.textContent || '');
  }
  const made = document.createElement(from.tagName);
  if (made instanceof HTMLAnchorElement) {
    const address = from.getAttribute('href') || '';
    if (address.length <= 4000 && LINK.test(address)) {
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
  rebuild(from, made);
  if (made instanceof HTMLTableElement) {
    return scrollable(made);
  }
  return made instanceof HTMLPreElement ? copyable(made) : made;
}

/**
 * A formula made anew; one that stands by itself scrolls in its own box.
 * @param {Element} from
 */
function formula(from) {
  const isBlock = from.getAttribute('display') === 'block';
  const box = element('span', isBlock ? 'agent-formula agent-formula-block' : 'agent-formula');
  box.append(mathml(from, 0));
  return box;
}

/**
 * @param {Element} from
 * @param {number} depth
 * @returns {Node}
 */
function mathml(from, depth) {
  const names = from.namespaceURI === MATHML ? FORMULA[from.localName] : undefined;
  if (!Array.isArray(names) || depth > DEEPEST) {
    return document.createTextNode(from.textContent || '');
  }
  const made = document.createElementNS(MATHML, from.localName);
  for (const name of names) {
    const value = from.getAttribute(name);
    if (value !== null && (name === 'class' ? CLASS : VALUE).test(value)) {
      made.setAttribute(name, value);
    }
  }
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) {
      made.append(node.textContent || '');
    } else if (node instanceof Element) {
      made.append(mathml(node, depth + 1));
    }
  }
  return made;
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
export function safe(html) {
  const fragment = document.createDocumentFragment();
  // A parsed document is inert: nothing in it loads or runs.
  rebuild(new DOMParser().parseFromString(html, 'text/html').body, fragment);
  return fragment;
}
