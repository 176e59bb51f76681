/** What a text is made of, and its HTML. */

import { COLUMNS_MOST, type Work } from "./bounds.ts";
import { inlineHtml } from "./inline.ts";
import type { Links } from "./links.ts";
import { formulaHtml } from "./math.ts";
import { escaped } from "./text.ts";

export type Align = "left" | "center" | "right" | null;

export interface List {
  kind: "list";
  isOrdered: boolean;
  start: number;
  isLoose: boolean;
  items: Node[][];
}

export interface Table {
  kind: "table";
  aligns: Align[];
  /** Null where a long table was cut and this is a later part. */
  head: string | null;
  rows: string[];
}

export type Node =
  | { kind: "paragraph"; text: string }
  | { kind: "heading"; level: number; text: string }
  | { kind: "code"; text: string; language: string }
  | { kind: "html"; text: string }
  | { kind: "rule" }
  | { kind: "quote"; children: Node[] }
  | { kind: "note"; label: string; children: Node[] }
  | List
  | Table;

/** The HTML of a node. What an agent wrote is escaped, but for plain tags and character references. */
export function htmlOf(node: Node, links: Links, work: Work): string {
  const inline = (text: string): string => inlineHtml(text, links, work);
  const all = (nodes: Node[]): string => nodes.map((one) => htmlOf(one, links, work)).join("");
  switch (node.kind) {
    case "paragraph":
      return `<p>${inline(node.text)}</p>\n`;
    case "heading":
      return `<h${node.level}>${inline(node.text)}</h${node.level}>\n`;
    case "code": {
      if (node.language === "math") return `<p>${formulaHtml(node.text, true)}</p>\n`;
      const known = /^[\w+#-]+$/.test(node.language) ? ` class="language-${node.language}"` : "";
      return `<pre><code${known}>${escaped(node.text)}</code></pre>\n`;
    }
    case "html":
      return `<div>${plainTagsOf(node.text, work)}</div>`;
    case "rule":
      return "<hr>\n";
    case "quote":
      return `<blockquote>\n${all(node.children)}</blockquote>\n`;
    case "note":
      return `<div class="note"><sup>${escaped(node.label)}</sup><div>${all(node.children)}</div></div>\n`;
    case "list":
      return listHtml(node, links, work);
    case "table":
      return tableHtml(node, inline, work);
  }
}

function listHtml(list: List, links: Links, work: Work): string {
  const tag = list.isOrdered ? "ol" : "ul";
  const start = list.isOrdered && list.start !== 1 ? ` start="${list.start}"` : "";
  const items = list.items.map((nodes) => `<li${isTask(nodes) ? ' class="task"' : ""}>${itemHtml(nodes, list.isLoose, links, work)}</li>\n`);
  return `<${tag}${start}>\n${items.join("")}</${tag}>\n`;
}

const TASK = /^\[([ xX])\][ \t]/;

function isTask([first]: Node[]): boolean {
  return first?.kind === "paragraph" && TASK.test(first.text);
}

/** A paragraph of a list without blank lines stands without its tags. */
function itemHtml(nodes: Node[], isLoose: boolean, links: Links, work: Work): string {
  return nodes
    .map((node, place) => {
      if (node.kind !== "paragraph") return htmlOf(node, links, work);
      const task = place === 0 ? TASK.exec(node.text) : null;
      const mark = task ? (task[1] === " " ? "☐ " : "☑ ") : "";
      const words = mark + inlineHtml(node.text.slice(task?.[0].length ?? 0), links, work);
      if (isLoose) return `<p>${words}</p>\n`;
      return place < nodes.length - 1 ? `${words}\n` : words;
    })
    .join("");
}

function tableHtml({ aligns, head, rows }: Table, inline: (text: string) => string, work: Work): string {
  const row = (line: string, tag: "th" | "td"): string => {
    work.steps += line.length;
    const cells = cellsOf(line).slice(0, aligns.length);
    const made = cells.map((cell, column) => `<${tag}${alignOf(aligns[column])}>${inline(cell)}</${tag}>`);
    const missing = aligns.length - cells.length;
    if (missing > 0) made.push(missing > 1 ? `<${tag} colspan="${missing}"></${tag}>` : `<${tag}></${tag}>`);
    return `<tr>${made.join("")}</tr>\n`;
  };
  const first = head === null ? "" : `<thead>\n${row(head, "th")}</thead>\n`;
  const body = rows.length > 0 ? `<tbody>${rows.map((line) => row(line, "td")).join("")}</tbody>` : "";
  return `<div class="wide"><table>\n${first}${body}</table></div>\n`;
}

function alignOf(align: Align | undefined): string {
  return align ? ` align="${align}"` : "";
}

/** The cells of a table's row: between the bars that no backslash takes away. */
export function cellsOf(line: string): string[] {
  let row = line.trim();
  if (row.startsWith("|")) row = row.slice(1);
  const cells: string[] = [];
  let from = 0;
  for (let at = row.indexOf("|"); at >= 0; at = row.indexOf("|", at + 1)) {
    if (row[at - 1] === "\\") continue;
    cells.push(row.slice(from, at));
    from = at + 1;
    if (cells.length > COLUMNS_MOST) break;
  }
  if (from < row.length) cells.push(row.slice(from));
  return cells.map((cell) => cell.replaceAll("\\|", "|").trim());
}

/** What a row of dashes says of the columns under a head, or null where it is none. */
export function alignsOf(dashes: string, head: string): Align[] | null {
  if (!/^[|:\- \t]+$/.test(dashes) || !dashes.includes("-") || !(dashes.includes("|") || head.includes("|"))) return null;
  const cells = cellsOf(dashes);
  if (cells.length > COLUMNS_MOST || cells.length !== cellsOf(head).length) return null;
  if (!cells.every((cell) => /^:?-+:?$/.test(cell))) return null;
  return cells.map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : null;
  });
}

const ESCAPED_PLAIN_TAG = /&#60;(\/?)(br|sub|sup|kbd|mark|u|s|b|i|em|strong|details|summary) ?\/?&#62;/g;
const OPEN_TAGS_MOST = 16;

/** HTML as the text that it is, but plain tags as what they mean, each closed where it was opened. */
function plainTagsOf(text: string, work: Work): string {
  work.steps += text.length;
  const open: string[] = [];
  const made = escaped(text).replace(ESCAPED_PLAIN_TAG, (whole, slash: string, tag: string) => {
    if (tag === "br") return "<br>";
    if (slash === "") {
      if (open.length >= OPEN_TAGS_MOST) return whole;
      open.push(tag);
      return `<${tag}>`;
    }
    if (open.at(-1) !== tag) return whole;
    open.pop();
    return `</${tag}>`;
  });
  return made + open.reverse().map((tag) => `</${tag}>`).join("");
}
