"""Looks at a page that shows hostile text of ours: what became of it, and what it reached."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

from tests.support.canary import Canary

__all__ = ["COVERED", "Watch"]

COVERED = r"""
const card = document.querySelector('.agent-ask .agent-buttons').closest('.agent-ask');
card.scrollIntoView({ block: 'center' });
const box = card.getBoundingClientRect();
const covered = [];
let points = 0;
for (let x = box.left + 1; x < box.right - 1; x += 5) {
  for (let y = box.top + 1; y < box.bottom - 1; y += 3) {
    const hit = document.elementFromPoint(x, y);
    points += 1;
    if (!card.contains(hit)) {
      covered.push([x, y, hit && hit.className]);
    }
  }
}
return { points, covered: covered.slice(0, 5), height: box.height };
"""
"""Statements: the points of the open question that do not belong to it."""

_ELEMENTS = r"""
({ roots, rel }) => {
  const found = [];
  const forbidden = 'script,iframe,frame,object,embed,applet,form,link,style,meta,base,video,' +
    'audio,source,track,svg,image,canvas,dialog,template,slot,textarea,select,marquee,portal,' +
    'mjx-container,.MathJax,.MathJax_Display,.katex,mglyph,maction,annotation-xml,semantics';
  const own = 'button[class^=agent-],input[class^=agent-]';
  const fetching = /^(src|srcset|poster|background|action|formaction|data|ping|xlink:href)$/;
  const picture = /^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,/;
  const told = each => each.outerHTML.slice(0, 150);
  for (const root of roots) {
    for (const bad of root.querySelectorAll(forbidden)) {
      found.push(`element ${told(bad)}`);
    }
    for (const bad of root.querySelectorAll('button,input')) {
      if (!bad.matches(own)) {
        found.push(`control ${told(bad)}`);
      }
    }
    for (const each of root.querySelectorAll('*')) {
      for (const { name, value } of each.attributes) {
        if (name.startsWith('on') || name.startsWith('data-commandlinker') ||
            name === 'id' || name === 'name' ||
            (name === 'style' &&
              /url\(|image-set|expression|position|transform|z-index|margin[^:]*:[^;]*-\d/
                .test(value)) ||
            (fetching.test(name) && !picture.test(value))) {
          found.push(`${each.tagName} ${name}=${value.slice(0, 100)}`);
        }
      }
    }
    for (const link of root.querySelectorAll('a[href]')) {
      if (link.closest('.jp-RenderedText') && !/^\s*javascript:/i.test(link.href)) {
        continue;  // JupyterLab's own, of what looks like an address or a path in any plain text
      }
      const isLoose = rel.split(' ').some(word => word && !link.relList.contains(word));
      if (!/^(https?:\/\/|mailto:)/i.test(link.getAttribute('href')) || isLoose) {
        found.push(`link ${told(link)}`);
      }
    }
  }
  for (const bad of document.querySelectorAll('#jupyterapp,[name=jupyterapp],[name=__pwned]')) {
    found.push(`page ${told(bad)}`);
  }
  if (window.__pwned !== undefined) {
    found.push('a script ran');
  }
  return found;
}
"""
_FORMULAS = r"""
({ roots, ignored }) => {
  // texts are joined as MathJax does it
  const found = [];
  const skipped = /^(SCRIPT|NOSCRIPT|STYLE|TEXTAREA|PRE|CODE|ANNOTATION|SELECT|OPTION)$/i;
  const formula = /\$[^]*\$|\\[([$]|\\begin\s*\{|\\(eq|page)?ref\s*\{/;
  function walk(node) {
    let text = '';
    const end = () => {
      const match = text.match(formula);
      if (match) {
        found.push(match[0].slice(0, 80));
      }
      text = '';
    };
    for (const child of node.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) {
        text += child.data;
      } else if (child.nodeType === Node.ELEMENT_NODE && !/^W?BR$/.test(child.tagName)) {
        end();
        if (!skipped.test(child.tagName) && !(ignored && child.matches(ignored))) {
          walk(child);
        }
      }
    }
    end();
  }
  roots.forEach(walk);
  return found;
}
"""
_OUTSIDE = r"""
({ roots }) => {
  const found = [];
  for (const root of roots) {
    for (const box of root.querySelectorAll('.agent-turn, .mathjax_ignore')) {
      const style = getComputedStyle(box);
      if (!/paint|strict|content/.test(style.contain) &&
          !/hidden|clip|auto/.test(style.overflowX)) {
        found.push(`not clipped: ${box.className}`);
      }
    }
  }
  if (roots[0] === document.body) {
    return found;  // there is nothing outside
  }
  // at several places of the page, what can be touched outside of our boxes is not ours
  for (const root of roots.filter((_, i) => i % Math.ceil(roots.length / 3) === 0)) {
    root.scrollIntoView();
    const boxes = roots.map(each => each.getBoundingClientRect());
    for (let x = 4; x < innerWidth; x += 64) {
      for (let y = 4; y < innerHeight; y += 48) {
        const top = document.elementFromPoint(x, y);
        const box = boxes[roots.findIndex(each => each.contains(top))];
        if (box &&
            (x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1)) {
          found.push(`${x},${y}: ${top.outerHTML.slice(0, 100)}`);
        }
      }
    }
  }
  return found;
}
"""


class Watch:
    """
    Listens to a page from now on. `canary` is the server that must not be asked.

    `noted` is everything that a hostile text may have caused: dialogs, windows, downloads,
    errors of scripts, and what the page's policy refused.
    """

    def __init__(self, page: Page, canary: Canary) -> None:
        self.page = page
        self.canary = canary
        self.noted: list[str] = []
        page.on("dialog", lambda dialog: self.noted.append(f"dialog {dialog.message}"))
        page.on("popup", lambda popup: self.noted.append(f"popup {popup.url}"))
        page.on("download", lambda download: self.noted.append(f"download {download.url}"))
        page.on("pageerror", lambda error: self.noted.append(f"error {error}"))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        text = message.text
        if re.search("Content.Security.Policy|__pwned", text) or self.canary.url in text:
            self.noted.append(f"console {text[:200]}")

    def problems(
        self,
        roots: str,
        *arguments: object,
        rel: str = "noopener noreferrer",
        ignored: str = "",
    ) -> list[str]:
        """
        What is wrong with our outputs, which the JavaScript function `roots` returns.

        `ignored` selects boxes of which the page's typesetter is known not to look inside, `rel`
        are the words that every link has.
        """
        found = self.page.evaluate_handle(roots, *arguments)
        values: dict[str, Any] = {"roots": found, "rel": rel, "ignored": ignored}
        problems = [
            problem
            for look in (_ELEMENTS, _FORMULAS, _OUTSIDE)
            for problem in self.page.evaluate(look, values)
        ]
        return [*problems, *self.noted, *(f"asked for {path}" for path in self.canary.hits)]
