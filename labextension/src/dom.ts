/** Nodes of a page. Text always goes in as text: no way leads from here to the HTML parser. */

export interface IOptions {
  class?: string;
  text?: string;
  title?: string;
  attributes?: Record<string, string>;
}

/** An element with its children. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: IOptions = {},
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  if (options.class) {
    node.className = options.class;
  }
  if (options.text !== undefined) {
    node.textContent = options.text;
  }
  if (options.title) {
    node.title = options.title;
  }
  for (const [name, value] of Object.entries(options.attributes ?? {})) {
    node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A button; `key` finds it again after a redraw. */
export function button(label: string, key: string, onClick: () => unknown, kind = ""): HTMLButtonElement {
  const node = el("button", {
    class: `am-Button ${kind}`.trim(),
    text: label,
    attributes: { type: "button", "data-key": key },
  });
  node.addEventListener("click", () => void onClick());
  return node;
}

/** Replace the children; the focus stays on the button with the same key. */
export function redraw(node: HTMLElement, ...children: Node[]): void {
  const focused = document.activeElement;
  const key = focused instanceof HTMLElement && node.contains(focused) ? focused.dataset.key : undefined;
  node.replaceChildren(...children);
  if (key !== undefined) {
    const again = [...node.querySelectorAll<HTMLElement>("[data-key]")].find((one) => one.dataset.key === key);
    again?.focus();
  }
}
