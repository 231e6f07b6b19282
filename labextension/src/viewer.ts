import { MainAreaWidget } from "@jupyterlab/apputils";
import { Widget } from "@lumino/widgets";
import { el } from "./dom";

const IMAGES: Record<string, string> = {
  gif: "image/gif",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  png: "image/png",
  svg: "image/svg+xml",
  webp: "image/webp",
};
const LONGEST_TEXT = 1_000_000;

/** Show a file of the container in a tab of its own: an image, or text as it is. */
export function viewer(name: string, data: Uint8Array<ArrayBuffer>, unreadable: string): MainAreaWidget {
  const content = new Widget();
  content.addClass("am-Viewer");
  content.title.label = name;
  content.title.closable = true;
  const kind = IMAGES[name.slice(name.lastIndexOf(".") + 1).toLowerCase()];
  if (kind !== undefined) {
    const image = el("img", { attributes: { alt: name } });
    image.src = `data:${kind};base64,${base64(data)}`; // as an image, an SVG runs no script
    content.node.append(image);
  } else {
    content.node.append(el("pre", { text: textOf(data) ?? unreadable, attributes: { tabindex: "0" } }));
  }
  const widget = new MainAreaWidget({ content });
  widget.id = `agent-magics-file-${Date.now()}`;
  return widget;
}

function textOf(data: Uint8Array): string | null {
  if (data.length > LONGEST_TEXT) {
    return null;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return null;
  }
}

function base64(data: Uint8Array): string {
  let text = "";
  for (let offset = 0; offset < data.length; offset += 0x8000) {
    text += String.fromCharCode(...data.subarray(offset, offset + 0x8000));
  }
  return btoa(text);
}

/** Have the browser save bytes as a file. */
export function save(name: string, data: Uint8Array<ArrayBuffer>): void {
  const url = URL.createObjectURL(new Blob([data], { type: "application/octet-stream" }));
  const link = el("a", { attributes: { href: url, download: name } });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
