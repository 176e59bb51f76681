/**
 * A little Markdown as elements: paragraphs, **strong**, *emphasis*, `code`, fenced code, lists, links to the web and
 * to mail. Everything else stays the text that it is; nothing is ever read as HTML.
 */

import { showText } from "./plain.ts";

/** A longer text is shown as it is: it is no answer to a question about a product. */
const LONGEST = 20_000;
const INLINE = /\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![\w*])|`([^`\n]+)`|\[([^\]\n]+)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>"')\]]+[^\s<>"')\].,;:!?])/g;
const ITEM = /^\s{0,3}(?:([-*+])|\d{1,3}[.)])\s+(.*)$/;

export function showRich(element: HTMLElement, text: string): void {
  if (text.length > LONGEST) {
    showText(element, text);
    return;
  }
  element.replaceChildren(...blocksOf(text.replace(/\r\n/g, "\n").split("\n")));
}

function blocksOf(lines: string[]): HTMLElement[] {
  const blocks: HTMLElement[] = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] ?? "";
    if (!line.trim()) at += 1;
    else if (/^\s{0,3}```/.test(line)) {
      let end = at + 1;
      while (end < lines.length && !/^\s{0,3}```\s*$/.test(lines[end] ?? "")) end += 1;
      const code = document.createElement("pre");
      code.dir = "ltr";
      code.tabIndex = 0;
      code.textContent = lines.slice(at + 1, end).join("\n");
      blocks.push(code);
      at = end + 1;
    } else if (ITEM.test(line)) {
      const list = document.createElement(/^\s*\d/.test(line) ? "ol" : "ul");
      for (let found = ITEM.exec(lines[at] ?? ""); found; found = ITEM.exec(lines[(at += 1)] ?? ""))
        list.append(withInline(document.createElement("li"), found[2] ?? ""));
      blocks.push(list);
    } else {
      let end = at + 1;
      while (end < lines.length && lines[end]?.trim() && !ITEM.test(lines[end] ?? "") && !/^\s{0,3}```/.test(lines[end] ?? "")) end += 1;
      blocks.push(withInline(document.createElement("div"), lines.slice(at, end).join("\n")));
      at = end;
    }
  }
  return blocks;
}

function withInline<T extends HTMLElement>(element: T, text: string): T {
  let last = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, strong, emphasis, code, label, address, bare] = found;
    const made =
      strong !== undefined ? withInline(document.createElement("strong"), strong)
      : emphasis !== undefined ? withInline(document.createElement("em"), emphasis)
      : code !== undefined ? plain("code", code)
      : linkTo(address ?? bare ?? "", label ?? bare ?? "");
    if (made === null) continue;
    element.append(text.slice(last, found.index), made);
    last = found.index + whole.length;
  }
  element.append(text.slice(last));
  return element;
}

function plain(name: "code", text: string): HTMLElement {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function linkTo(address: string, label: string): HTMLElement | null {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  const link = document.createElement("a");
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow ugc";
  link.textContent = label;
  return link;
}
