/** What links lead to: `[label]: address "title"` lines, and `(address "title")` behind a link's text. */

import { BLOCK_MOST, DEFINITIONS_MOST, LABEL_MOST, PARENTHESES_MOST, TARGET_MOST, type Work } from "./bounds.ts";
import { unescaped } from "./text.ts";

export interface Target {
  href: string;
  title: string | null;
}

export type Links = Map<string, Target>;

const DEFINITION =
  /^ {0,3}\[(?!\^)((?:[^[\]\\\n]|\\.){1,200})\]:[ \t]{0,20}(<[^<>\n]{0,4000}>|[^\s<]\S{0,4000})(?:[ \t]{1,20}("[^"\n]{0,4000}"|'[^'\n]{0,4000}'|\([^()\n]{0,4000}\)))?[ \t]{0,20}$/;

/** The definition that a line is, or null. */
export function definitionIn(line: string): { label: string; target: Target } | null {
  if (!line.includes("]:")) return null;
  const found = DEFINITION.exec(line);
  if (!found) return null;
  const [, label = "", address = "", title] = found;
  const href = unescaped(address.startsWith("<") ? address.slice(1, -1) : address);
  return { label: normal(label), target: { href, title: title ? unescaped(title.slice(1, -1)) : null } };
}

const NOTE = /^ {0,3}\[\^([\w-]{1,50})\]:/;
/** What a reference to a footnote leads to: the note, in the same text. */
export const NOTE_ADDRESS = "#fn-";

/** The footnote that a line begins, under the label of its references. */
function noteIn(line: string): ReturnType<typeof definitionIn> {
  const label = NOTE.exec(line)?.[1];
  return label === undefined ? null : { label: normal(`^${label}`), target: { href: NOTE_ADDRESS + label, title: null } };
}

/** Adds the definitions of a part of a text. True if there was a new one. */
export function addDefinitions(links: Links, text: string): boolean {
  const before = links.size;
  let from = 0;
  while (links.size < DEFINITIONS_MOST) {
    const sign = text.indexOf("]:", from);
    if (sign < 0) break;
    const start = text.lastIndexOf("\n", sign) + 1;
    const next = text.indexOf("\n", sign);
    const end = next < 0 ? text.length : next;
    const line = start < from || end - start > BLOCK_MOST ? "" : text.slice(start, end);
    const found = noteIn(line) ?? definitionIn(line);
    if (found && found.label !== "" && !links.has(found.label)) links.set(found.label, found.target);
    from = end + 1;
  }
  return links.size > before;
}

export function normal(label: string): string {
  return label.trim().replace(/\s+/g, " ").toLowerCase();
}

/** The definition that a label names. */
export function named(links: Links, label: string): Target | undefined {
  return links.size === 0 || label.length > LABEL_MOST ? undefined : links.get(normal(label));
}

/** `(address "title")` at a place of a text, and where it ends. */
export function targetAt(text: string, at: number, work: Work): { target: Target; end: number } | null {
  let place = blanks(text, at + 1);
  const address = text[place] === "<" ? pointed(text, place) : bare(text, place);
  if (address === null) return null;
  const href = unescaped(text.slice(address.from, address.to));
  const behind = blanks(text, address.end);
  const title = behind > address.end ? titleAt(text, behind) : null;
  place = title === null ? behind : blanks(text, title.end);
  work.steps += place - at;
  if (text[place] !== ")") return null;
  return { target: { href, title: title === null ? null : unescaped(title.title) }, end: place + 1 };
}

interface Address {
  from: number;
  to: number;
  end: number;
}

function pointed(text: string, at: number): Address | null {
  for (let place = at + 1; place < Math.min(text.length, at + TARGET_MOST); place += 1) {
    const sign = text[place];
    if (sign === "\\") place += 1;
    else if (sign === ">") return { from: at + 1, to: place, end: place + 1 };
    else if (sign === "<" || sign === "\n") return null;
  }
  return null;
}

function bare(text: string, at: number): Address | null {
  let parentheses = 0;
  let place = at;
  for (; place < text.length; place += 1) {
    const sign = text.charCodeAt(place);
    if (place - at > TARGET_MOST || parentheses > PARENTHESES_MOST) return null;
    if (sign === 92 /* \ */) place += 1;
    else if (sign === 40 /* ( */) parentheses += 1;
    else if (sign === 41 /* ) */ && parentheses > 0) parentheses -= 1;
    else if (sign === 41 || sign <= 32) break;
  }
  const end = Math.min(place, text.length);
  return parentheses > 0 ? null : { from: at, to: end, end };
}

const CLOSING: Record<string, string> = { '"': '"', "'": "'", "(": ")" };

function titleAt(text: string, at: number): { title: string; end: number } | null {
  const open = text[at] ?? "";
  const close = CLOSING[open];
  if (close === undefined) return null;
  for (let place = at + 1; place < Math.min(text.length, at + TARGET_MOST); place += 1) {
    const sign = text[place];
    if (sign === "\\") place += 1;
    else if (sign === close) return { title: text.slice(at + 1, place), end: place + 1 };
    else if (sign === open) return null;
  }
  return null;
}

/** Where the blanks at a place end, with one line's end among them at most. */
function blanks(text: string, at: number): number {
  let place = at;
  let lines = 0;
  for (; place - at < 100; place += 1) {
    const sign = text[place];
    if (sign === "\n") lines += 1;
    else if (sign !== " " && sign !== "\t") break;
    if (lines > 1) break;
  }
  return place;
}
