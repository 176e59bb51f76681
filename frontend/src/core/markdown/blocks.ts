/**
 * A text → its top-level blocks, one after the other.
 *
 * Guarantees: CommonMark's block structure with GFM's tables, read line by line in one pass; no more than
 * CONTAINERS_MOST quotes and lists inside each other; no block much longer than BLOCK_MOST but one of code; every sign
 * of the text is in a block. A block that was cut goes on in the next one, which says `isContinued`.
 */

import { BLOCK_MOST, CONTAINERS_MOST, MATH_LINES_MOST, WEIGHT_OF_NODE, Work } from "./bounds.ts";
import { Cursor } from "./cursor.ts";
import { definitionIn } from "./links.ts";
import { openFormula } from "./math.ts";
import { type Align, alignsOf, type List, type Node } from "./nodes.ts";

export interface TopBlock {
  node: Node;
  start: number;
  end: number;
  isContinued: boolean;
  /** Its characters, and a few for each thing in it. */
  weight: number;
  /** Not read as Markdown: the node means nothing, the text is shown as it is. */
  isPlain?: boolean;
}

interface Container {
  kind: "document" | "quote" | "list" | "item" | "note";
  children: Node[];
  /** Columns of a list item's content, or a footnote's. */
  indent: number;
  list: List | null;
  /** The sign of a list's items: `-`, `.`, `)` …; a footnote's label. */
  sign: string;
}

interface Paragraph {
  kind: "paragraph";
  lines: string[];
  /** What ends the formula that was begun: its lines begin nothing else. So many more are waited for. */
  formula?: { closer: string; left: number } | null;
}

type Leaf =
  | Paragraph
  | { kind: "fence"; lines: string[]; sign: string; length: number; indent: number; language: string }
  | { kind: "indented"; lines: string[] }
  | { kind: "html"; lines: string[]; end: RegExp | null }
  | { kind: "table"; head: string | null; aligns: Align[]; rows: string[] };

const HEADING = /(#{1,6})(?:[ \t]|$)/y;
const FENCE = /`{3,}|~{3,}/y;
const RULE = /(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/y;
const BULLET = /[*+-](?=[ \t]|$)/y;
const NUMBER = /(\d{1,9})([.)])(?=[ \t]|$)/y;
const NOTE = /\[\^([\w-]{1,50})\]:(?=[ \t]|$)/y;
/** Columns by which the later paragraphs of a footnote are moved in. */
const NOTE_INDENT = 4;
const UNDERLINE = /(?:=+|-+)[ \t]*$/y;

const RAW_START = /<(?:script|pre|style|textarea)(?=[\s>]|$)/iy;
const RAW_END = /<\/(?:script|pre|style|textarea)>/i;
const COMMENT = /<!--/y;
const BLOCK_TAG =
  /<\/?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul)(?=[\s>]|\/>|$)/iy;
const LONE_TAG = /<\/?[a-z][a-z\d-]*(?:[ \t][^<>]*)?>[ \t]*$/iy;

export class BlockReader {
  readonly #text: string;
  readonly #work: Work;
  #at: number;
  /** The line that is read, or the part of it. */
  #lineStart: number;
  #lineEnd: number;
  #open: Container[] = [];
  #leaf: Leaf | null = null;
  #ready: TopBlock[] = [];
  /** Where the top-level block that is being read began, how heavy it is, and whether it goes on from one before. */
  #start = 0;
  #weight = 0;
  #nodes = 0;
  #isContinued = false;
  #wasBlank = false;

  constructor(text: string, from = 0, work = new Work()) {
    this.#text = text;
    this.#work = work;
    this.#at = from;
    this.#lineStart = from;
    this.#lineEnd = from;
    this.#open = [container("document")];
  }

  /** Reads lines of so many characters. True once the next block is there, or the text ends. */
  read(characters: number): boolean {
    const until = this.#at + characters;
    while (this.#ready.length === 0 && this.#at < Math.min(until, this.#text.length)) this.#readLine();
    return this.#ready.length > 0 || this.#at >= this.#text.length;
  }

  /** The next block, or null at the end. */
  next(): TopBlock | null {
    this.read(Infinity);
    if (this.#ready.length === 0) {
      this.#lineStart = this.#text.length;
      this.#closeTo(1);
    }
    return this.#ready.shift() ?? null;
  }

  // -- lines --------------------------------------------------------------------------------------------------

  /** Reads one line, and of a long one that is no code a part. */
  #readLine(): void {
    const text = this.#text;
    const start = this.#at;
    const found = text.indexOf("\n", start);
    const lineEnd = found < 0 ? text.length : found;
    const isWhole = lineEnd - start <= BLOCK_MOST || (this.#leaf?.kind === "fence" && this.#open.length === 1);
    const end = isWhole ? lineEnd : cutAt(text, start + BLOCK_MOST);
    const isRest = start > 0 && text.charCodeAt(start - 1) !== 10;
    const isAtLineEnd = end === lineEnd;
    const line = text.slice(start, isAtLineEnd && text.charCodeAt(end - 1) === 13 && end > start ? end - 1 : end);
    this.#lineStart = start;
    this.#lineEnd = Math.min(text.length, isAtLineEnd ? end + 1 : end);
    this.#work.steps += 1 + line.length;
    this.#cut();
    if (isRest) this.#goOn(line);
    else this.#line(new Cursor(line));
    this.#weight += line.length + 1;
    this.#at = this.#lineEnd;
  }

  #isIdle(): boolean {
    return this.#open.length === 1 && this.#leaf === null;
  }

  /** Ends a block that is long enough, so that the next line begins another one. */
  #cut(): void {
    if (this.#weight <= BLOCK_MOST) return;
    const leaf = this.#leaf;
    if (this.#open.length > 1) {
      // A list waits for its next item, but not for ever.
      const isList = this.#open[1]?.kind === "list";
      if (!isList || this.#weight > 4 * BLOCK_MOST) this.#closeTo(1);
    } else if (leaf?.kind === "paragraph" || leaf?.kind === "html" || leaf?.kind === "table") {
      this.#closeLeaf();
      this.#afresh(this.#lineStart);
      if (leaf.kind === "table") this.#leaf = { ...leaf, head: null, rows: [] };
      else this.#leaf = { ...leaf, lines: [] };
      this.#isContinued = true;
    }
  }

  /** The rest of a line that was cut: text of the paragraph before it. */
  #goOn(line: string): void {
    const leaf = this.#leaf;
    if (leaf?.kind === "paragraph" || leaf?.kind === "fence" || leaf?.kind === "indented" || leaf?.kind === "html") {
      leaf.lines.push((leaf.lines.pop() ?? "") + line);
      return;
    }
    this.#closeLeaf();
    if (line.trim() === "") return;
    this.#notInList();
    this.#begin();
    this.#leaf = { kind: "paragraph", lines: [line.trimStart()] };
    if (this.#open.length === 1) this.#isContinued = true;
  }

  #line(cursor: Cursor): void {
    const isBlank = cursor.line.trim() === "";
    let depth = 1;
    while (depth < this.#open.length && this.#continues(depth, cursor, isBlank)) depth += 1;
    const isAll = depth === this.#open.length;
    this.#work.steps += depth;
    const isTaken = isAll && this.#leaf !== null && this.#takes(this.#leaf, cursor, isBlank);
    if (!isTaken && cursor.next().at >= cursor.line.length) return this.#blank(depth, isAll);
    if (!isTaken) this.#beginnings(cursor, depth, isAll);
    this.#wasBlank = false;
  }

  /** Takes an open container's mark off a line, if it has it. */
  #continues(depth: number, cursor: Cursor, isBlank: boolean): boolean {
    const open = this.#open[depth];
    const { at, indent } = cursor.next();
    if (!open || open.kind === "list") return true;
    if (open.kind === "quote") {
      if (indent > 3 || cursor.line[at] !== ">") return false;
      cursor.moveTo(at, 1);
      cursor.skip(1);
      return true;
    }
    const isBlankHere = isBlank || at >= cursor.line.length;
    if (isBlankHere) {
      const isLast = depth === this.#open.length - 1;
      const isEmpty = open.children.length === 0 && isLast && this.#leaf === null;
      cursor.skip(Math.min(indent, open.indent));
      return !isEmpty;
    }
    if (indent < open.indent) return false;
    cursor.skip(open.indent);
    return true;
  }

  #blank(depth: number, isAll: boolean): void {
    const leaf = this.#leaf;
    if (!isAll) this.#closeTo(depth);
    else if (leaf?.kind === "indented") leaf.lines.push("");
    else this.#closeLeaf();
    this.#wasBlank = this.#open.at(-1)?.kind !== "quote";
  }

  /** Gives a line to a leaf that wants lines as they are. */
  #takes(leaf: Leaf, cursor: Cursor, isBlank: boolean): boolean {
    const { at, indent } = cursor.next();
    if (leaf.kind === "fence") {
      const close = indent < 4 ? matchAt(FENCE, cursor.line, at) : null;
      const isEnd = close && close[0].startsWith(leaf.sign) && close[0].length >= leaf.length;
      if (isEnd && cursor.line.slice(at + close[0].length).trim() === "") {
        this.#closeLeaf(true);
        return true;
      }
      cursor.skip(Math.min(indent, leaf.indent));
      leaf.lines.push(cursor.rest());
      return true;
    }
    if (leaf.kind === "html") {
      const rest = cursor.rest();
      if (isBlank && leaf.end === null) return false;
      leaf.lines.push(rest);
      if (leaf.end?.test(rest)) this.#closeLeaf(true);
      return true;
    }
    if (leaf.kind === "paragraph") return !isBlank && at < cursor.line.length && takesFormula(leaf, cursor.line.slice(at));
    if (leaf.kind !== "indented" || indent < 4 || at >= cursor.line.length) return false;
    cursor.skip(4);
    leaf.lines.push(cursor.rest());
    return true;
  }

  // -- beginnings ---------------------------------------------------------------------------------------------

  /** Begins what a line begins, containers first; else its text belongs to a paragraph. */
  #beginnings(cursor: Cursor, matched: number, isAllMatched: boolean): void {
    let depth = matched;
    let isAll = isAllMatched;
    for (;;) {
      const { at, indent } = cursor.next();
      this.#work.steps += 1;
      if (at >= cursor.line.length) return;
      const isInParagraph = this.#leaf?.kind === "paragraph";
      if (indent >= 4) {
        if (isInParagraph) break;
        this.#prepare(depth);
        this.#notInList();
        cursor.skip(4);
        this.#begin();
        this.#leaf = { kind: "indented", lines: [cursor.rest()] };
        return;
      }
      if (isAll && this.#underlines(cursor.line, at)) return;
      const what = this.#container(cursor, depth, isAll && isInParagraph);
      if (!what) {
        if (this.#leafOf(cursor, depth, isInParagraph)) return;
        break;
      }
      depth = this.#open.length;
      isAll = true;
    }
    this.#paragraph(cursor, depth, isAll);
  }

  #paragraph(cursor: Cursor, depth: number, isAll: boolean): void {
    const words = cursor.line.slice(cursor.next().at);
    const leaf = this.#leaf;
    if (leaf?.kind === "paragraph") {
      // A line without the marks of its containers goes on with their paragraph all the same.
      leaf.lines.push(words);
      leaf.formula = formulaIn(words);
      return;
    }
    if (isAll && leaf?.kind === "table") {
      leaf.rows.push(words);
      this.#count(1 + leaf.aligns.length);
      return;
    }
    this.#prepare(depth);
    this.#notInList();
    this.#begin();
    this.#leaf = { kind: "paragraph", lines: [words], formula: formulaIn(words) };
  }

  /** A row under a paragraph that makes it a heading, or its last line the head of a table. */
  #underlines(line: string, at: number): boolean {
    const leaf = this.#leaf;
    if (leaf?.kind !== "paragraph" || leaf.lines.length === 0) return false;
    const sign = line[at] ?? "";
    if (!"=-:|".includes(sign)) return false;
    const head = leaf.lines.at(-1) ?? "";
    const aligns = alignsOf(line.slice(at), head);
    if (aligns && (leaf.lines.length === 1 || !this.#beginsOtherwise())) {
      leaf.lines.pop();
      if (leaf.lines.length > 0) this.#endBeforeLastLine();
      this.#leaf = { kind: "table", head, aligns, rows: [] };
      return true;
    }
    if (!matchAt(UNDERLINE, line, at)) return false;
    const text = withoutDefinitions(leaf.lines).join("\n").trim();
    if (text === "") return false;
    this.#leaf = null;
    this.#put({ kind: "heading", level: sign === "=" ? 1 : 2, text }, true);
    return true;
  }

  /** True if the line before this one would be something else than a table's head if reading began with it. */
  #beginsOtherwise(): boolean {
    const start = this.#text.lastIndexOf("\n", this.#lineStart - 2) + 1;
    return /^(?: {4}| {0,3}(?:\t|\d{1,9}[.)](?:[ \t]|$)))/.test(this.#text.slice(start, start + 20));
  }

  /** Ends a paragraph whose last line begins something else. */
  #endBeforeLastLine(): void {
    const here = this.#lineStart;
    this.#lineStart = this.#text.lastIndexOf("\n", here - 2) + 1;
    this.#closeLeaf();
    this.#lineStart = here;
  }

  /** Opens a quote, a footnote or a list item, if one begins here and there is room. */
  #container(cursor: Cursor, depth: number, isInterrupting: boolean): boolean {
    const { at, indent } = cursor.next();
    const { line } = cursor;
    if (Math.max(depth, 1) > CONTAINERS_MOST) return false;
    if (line[at] === ">") {
      this.#prepare(depth);
      this.#notInList();
      cursor.moveTo(at, 1);
      cursor.skip(1);
      this.#begin();
      this.#open.push(container("quote"));
      return true;
    }
    const isTop = depth <= 1 || (depth === 2 && this.#open[1]?.kind === "list");
    const note = isTop && line[at] === "[" ? matchAt(NOTE, line, at) : null;
    if (note?.[1]) {
      this.#prepare(depth);
      this.#notInList();
      cursor.moveTo(at, note[0].length);
      this.#begin();
      this.#open.push({ ...container("note"), indent: NOTE_INDENT, sign: note[1] });
      return true;
    }
    const bullet = matchAt(RULE, line, at) ? null : matchAt(BULLET, line, at);
    const number = matchAt(NUMBER, line, at);
    const mark = bullet?.[0] ?? number?.[0];
    if (mark === undefined) return false;
    const isEmpty = line.slice(at + mark.length).trim() === "";
    if (isInterrupting && (isEmpty || (number && Number(number[1]) !== 1))) return false;
    this.#item(cursor, depth, { at, indent, mark, sign: number?.[2] ?? mark, first: Number(number?.[1] ?? 1), isEmpty });
    return true;
  }

  #item(cursor: Cursor, depth: number, found: Mark): void {
    const { at, indent, mark, sign, first, isEmpty } = found;
    this.#prepare(depth);
    const isBullet = sign === mark;
    let list = this.#open.at(-1);
    const isSame = list?.kind === "list" && list.sign === sign && list.list?.isOrdered === !isBullet;
    const isTooLong = this.#open.length === 2 && this.#weight > BLOCK_MOST;
    if (list?.kind === "list" && (!isSame || isTooLong)) {
      const goesOnAt = isSame && list.list ? list.list.start + list.list.items.length : null;
      this.#closeTo(this.#open.length - 1);
      list = undefined;
      if (goesOnAt !== null) {
        this.#begin();
        this.#isContinued = true;
        list = this.#openList(sign, !isBullet, goesOnAt);
      }
    }
    if (list?.kind !== "list") {
      this.#begin();
      list = this.#openList(sign, !isBullet, first);
    } else if (this.#wasBlank && list.list && list.list.items.length > 0) list.list.isLoose = true;
    cursor.moveTo(at, mark.length);
    const blanks = isEmpty ? 1 : cursor.next().indent;
    const taken = blanks > 4 ? 1 : blanks;
    cursor.skip(taken);
    const item = container("item");
    item.indent = indent + mark.length + taken;
    list.list?.items.push(item.children);
    this.#open.push(item);
    this.#count(1);
    this.#wasBlank = false;
  }

  #openList(sign: string, isOrdered: boolean, start: number): Container {
    const opened = container("list");
    opened.sign = sign;
    opened.list = { kind: "list", isOrdered, start, isLoose: false, items: [] };
    this.#open.push(opened);
    return opened;
  }

  /** Begins a leaf other than a paragraph. */
  #leafOf(cursor: Cursor, depth: number, isInParagraph: boolean): boolean {
    const { line } = cursor;
    const { at, indent } = cursor.next();
    const heading = matchAt(HEADING, line, at);
    if (heading?.[1]) {
      this.#prepare(depth);
      this.#add({ kind: "heading", level: heading[1].length, text: headingText(line.slice(at + heading[1].length)) });
      return true;
    }
    const fence = matchAt(FENCE, line, at);
    const info = fence ? line.slice(at + fence[0].length).trim() : "";
    if (fence && !(fence[0].startsWith("`") && info.includes("`"))) {
      this.#prepare(depth);
      this.#notInList();
      this.#begin();
      const language = info.split(/\s/, 1)[0] ?? "";
      this.#leaf = { kind: "fence", lines: [], sign: fence[0][0] ?? "", length: fence[0].length, indent, language };
      return true;
    }
    if (line[at] === "<") return this.#html(cursor, depth, at, isInParagraph);
    if (!matchAt(RULE, line, at)) return false;
    this.#prepare(depth);
    this.#add({ kind: "rule" });
    return true;
  }

  #html(cursor: Cursor, depth: number, at: number, isInParagraph: boolean): boolean {
    const { line } = cursor;
    const isRaw = matchAt(RAW_START, line, at) !== null;
    const isComment = matchAt(COMMENT, line, at) !== null;
    const isBlock = matchAt(BLOCK_TAG, line, at) !== null;
    if (!isRaw && !isComment && !isBlock && (isInParagraph || !matchAt(LONE_TAG, line, at))) return false;
    this.#prepare(depth);
    this.#notInList();
    this.#begin();
    const end = isRaw ? RAW_END : isComment ? /-->/ : null;
    const rest = cursor.rest();
    this.#leaf = { kind: "html", lines: [rest], end };
    if (end?.test(rest)) this.#closeLeaf(true);
    return true;
  }

  // -- the stack ----------------------------------------------------------------------------------------------

  /** Closes what the line has not matched, and a leaf that it interrupts. */
  #prepare(depth: number): void {
    if (depth < this.#open.length) this.#closeTo(depth);
    else this.#closeLeaf();
  }

  /** Only items are in lists: anything else ends one. */
  #notInList(): void {
    if (this.#open.at(-1)?.kind === "list") this.#closeTo(this.#open.length - 1);
  }

  /** Something begins in the innermost container. */
  #begin(): void {
    if (this.#isIdle()) this.#afresh(this.#lineStart);
    this.#count(1);
    this.#loosen();
  }

  /** Blocks with a blank line between them make their list a loose one. */
  #loosen(): void {
    const top = this.#open.at(-1);
    if (top?.kind !== "item" || !this.#wasBlank || top.children.length === 0) return;
    const list = this.#open.at(-2)?.list;
    if (list) list.isLoose = true;
  }

  /** Adds a leaf of one line. */
  #add(node: Node): void {
    this.#notInList();
    this.#begin();
    this.#put(node, true);
  }

  /** Ends a block: before the line that is read, or with it. */
  #put(node: Node, hasLine: boolean): void {
    const top = this.#open.at(-1);
    if (top && this.#open.length > 1) {
      top.children.push(node);
      return;
    }
    const end = hasLine ? this.#lineEnd : this.#lineStart;
    const weight = end - this.#start + this.#nodes * WEIGHT_OF_NODE;
    this.#ready.push({ node, start: this.#start, end, isContinued: this.#isContinued, weight });
    this.#afresh(end);
  }

  /** The next top-level block begins here. */
  #afresh(start: number): void {
    this.#start = start;
    this.#weight = 0;
    this.#nodes = 0;
    this.#isContinued = false;
  }

  #count(nodes: number): void {
    this.#nodes += nodes;
    this.#weight += nodes * WEIGHT_OF_NODE;
  }

  #closeTo(depth: number): void {
    this.#closeLeaf();
    while (this.#open.length > depth) {
      const closed = this.#open.pop();
      if (closed?.kind === "quote") this.#put({ kind: "quote", children: closed.children }, false);
      else if (closed?.kind === "note") this.#put({ kind: "note", label: closed.sign, children: closed.children }, false);
      else if (closed?.list) this.#put(closed.list, false);
    }
  }

  #closeLeaf(hasLine = false): void {
    const leaf = this.#leaf;
    this.#leaf = null;
    const node = leaf && nodeOf(leaf);
    if (node) this.#put(node, hasLine);
  }
}

interface Mark {
  at: number;
  indent: number;
  mark: string;
  sign: string;
  first: number;
  isEmpty: boolean;
}

function container(kind: Container["kind"]): Container {
  return { kind, children: [], indent: 0, list: null, sign: "" };
}

function nodeOf(leaf: Leaf): Node | null {
  switch (leaf.kind) {
    case "paragraph": {
      const text = withoutDefinitions(leaf.lines).join("\n").trimEnd();
      return text === "" ? null : { kind: "paragraph", text };
    }
    case "fence":
      return { kind: "code", text: leaf.lines.join("\n"), language: leaf.language };
    case "indented": {
      while (leaf.lines.at(-1)?.trim() === "") leaf.lines.pop();
      return { kind: "code", text: leaf.lines.join("\n"), language: "" };
    }
    case "html":
      return leaf.lines.length === 0 ? null : { kind: "html", text: leaf.lines.join("\n") };
    case "table": {
      if (leaf.head === null && leaf.rows.length === 0) return null;
      return { kind: "table", aligns: leaf.aligns, head: leaf.head, rows: leaf.rows };
    }
  }
}

function formulaIn(line: string): NonNullable<Paragraph["formula"]> | null {
  const closer = openFormula(line);
  return closer === null ? null : { closer, left: MATH_LINES_MOST };
}

/** Gives a line to the formula that a paragraph has begun. */
function takesFormula(leaf: Paragraph, line: string): boolean {
  const { formula } = leaf;
  if (!formula) return false;
  leaf.lines.push(line);
  formula.left -= 1;
  if (formula.left <= 0 || line.includes(formula.closer)) leaf.formula = null;
  return true;
}

/** Definitions of links are read apart; they stand before a paragraph's text. */
function withoutDefinitions(lines: string[]): string[] {
  let count = 0;
  while (count < lines.length && definitionIn(lines[count] ?? "")) count += 1;
  return count > 0 ? lines.slice(count) : lines;
}

function headingText(rest: string): string {
  const text = rest.trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  const isClosed = end < text.length && (end === 0 || /[ \t]/.test(text[end - 1] ?? ""));
  return isClosed ? text.slice(0, end).trimEnd() : text;
}

/** Where a line that is too long is cut: behind a blank if one is near, and never in the middle of a character. */
function cutAt(text: string, most: number): number {
  const blank = text.lastIndexOf(" ", most);
  if (most - blank < 200) return blank + 1;
  const code = text.charCodeAt(most);
  return code >= 0xdc00 && code <= 0xdfff ? most - 1 : most;
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}
