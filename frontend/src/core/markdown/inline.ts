/**
 * The text of one block → HTML: emphasis, code, formulas, links, plain tags.
 *
 * Guarantees: one pass from left to right with CommonMark's stacks of delimiters and brackets, nothing is tried twice;
 * no tag is open at the end; no more than INLINE_DEPTH_MOST tags are inside each other; what the text says is escaped.
 */

import { INLINE_DEPTH_MOST, type Work } from "./bounds.ts";
import { type Links, named, NOTE_ADDRESS, type Target, targetAt } from "./links.ts";
import { betweenDollars, type Formula, formula, formulaHtml } from "./math.ts";
import { ENTITY, escaped, escapedButEntities } from "./text.ts";

export function inlineHtml(text: string, links: Links, work: Work): string {
  return new Inline(text, links, work).html();
}

/** A run of `*`, `_` or `~`: what is left of it, and the tags that it closes and opens. */
interface Run {
  kind: "run";
  sign: string;
  rest: number;
  length: number;
  canOpen: boolean;
  canClose: boolean;
  closes: string[];
  opens: string[];
  before: Run | null;
  after: Run | null;
}

interface Tag {
  kind: "tag";
  tag: string;
  isOpening: boolean;
  /** The HTML of an opening tag. */
  html: string;
  /** What it is as text, where it closes nothing; null for tags of ours, which always pair. */
  source: string | null;
}

interface Bracket {
  /** Its place in `pieces`. */
  piece: number;
  /** Where the text behind it begins. */
  from: number;
  isImage: boolean;
  below: Run | null;
}

type Piece = string | Run | Tag;

const SPECIAL = /[\\`*_~[\]!<&\n@$]|https?:\/\/|www\./gi;
const PLAIN_TAG = /<(\/?)(br|sub|sup|kbd|mark|u|s|b|i|em|strong|details|summary) ?\/?>/y;
const ANY_TAG = /<\/?[a-z][^<>]{0,2000}>/iy;
const ADDRESS = /<([a-z][a-z\d+.-]{1,31}:[^\s<>]{0,4000})>/iy;
const MAIL_IN_SIGNS = /<([\w.!#$%&'*+/=?^{|}~-]{1,200}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){0,20})>/iy;
const BARE_ADDRESS = /(?:https?:\/\/|www\.)[^\s<]{1,4000}/iy;
const MAIL_HOST = /@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,20}/iy;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

class Inline {
  readonly #text: string;
  readonly #links: Links;
  readonly #work: Work;
  readonly #pieces: Piece[] = [];
  readonly #brackets: Bracket[] = [];
  /** Brackets below this place are around a link already; a link holds no link. */
  #spent = 0;
  #lastRun: Run | null = null;
  #at = 0;
  /** Where runs of backticks begin, by their length; made at the first one. */
  #ticks: Map<number, number[]> | null = null;
  /** Where the signs are that end a formula. */
  readonly #next = new Map<string, number>();

  constructor(text: string, links: Links, work: Work) {
    this.#text = text;
    this.#links = links;
    this.#work = work;
  }

  html(): string {
    const text = this.#text;
    while (this.#at < text.length) {
      SPECIAL.lastIndex = this.#at;
      const found = SPECIAL.exec(text);
      const place = found ? found.index : text.length;
      this.#work.steps += 1 + place - this.#at;
      if (place > this.#at) this.#pieces.push(escaped(text.slice(this.#at, place)));
      const plainFrom = this.#at;
      this.#at = place;
      if (found) this.#special(found[0], plainFrom);
    }
    this.#pair(null);
    return this.#written();
  }

  #special(sign: string, plainFrom: number): void {
    switch (sign) {
      case "\\":
        return this.#backslash();
      case "`":
        return this.#code();
      case "$":
        return this.#dollar();
      case "*":
      case "_":
      case "~":
        return this.#run(sign);
      case "[":
        return this.#bracket(1, false);
      case "!":
        return this.#text[this.#at + 1] === "[" ? this.#bracket(2, true) : this.#literal(1);
      case "]":
        return this.#closing();
      case "<":
        return this.#angle();
      case "&":
        return this.#entity();
      case "\n":
        return this.#lineEnd();
      case "@":
        return this.#mail(plainFrom);
      default:
        return this.#address();
    }
  }

  #literal(length: number): void {
    this.#pieces.push(escaped(this.#text.slice(this.#at, this.#at + length)));
    this.#at += length;
  }

  #backslash(): void {
    const next = this.#text[this.#at + 1] ?? "";
    const found = next === "(" || next === "[" ? this.#betweenSlashes(next) : null;
    if (found) return this.#formula(found);
    if (next === "\n") this.#pieces.push("<br>\n");
    else if (/[!-/:-@[-`{-~]/.test(next)) this.#pieces.push(escaped(next));
    else return this.#literal(1);
    this.#at += 2;
  }

  #lineEnd(): void {
    const last = this.#pieces.at(-1);
    this.#at += 1;
    if (typeof last !== "string" || !last.endsWith(" ")) {
      this.#pieces.push("\n");
      return;
    }
    const cut = last.trimEnd();
    this.#pieces[this.#pieces.length - 1] = cut;
    this.#pieces.push(last.length - cut.length > 1 ? "<br>\n" : "\n");
  }

  // -- formulas -----------------------------------------------------------------------------------------------

  #dollar(): void {
    const found = betweenDollars(this.#text, this.#at, this.#work);
    if (found) return this.#formula(found);
    let end = this.#at + 1;
    while (this.#text[end] === "$") end += 1;
    this.#literal(end - this.#at);
  }

  #formula({ tex, isDisplay, end }: Formula): void {
    this.#pieces.push(formulaHtml(tex, isDisplay));
    this.#at = end;
  }

  /** `\(…\)` or `\[…\]`; without an end, the backslash only takes the sign's meaning away. */
  #betweenSlashes(open: "(" | "["): Formula | null {
    const closer = open === "(" ? "\\)" : "\\]";
    const from = this.#at + 2;
    const end = this.#nextOf(closer, from);
    const tick = this.#nextOf("`", from);
    return end === null || (tick !== null && tick < end) ? null : formula(this.#text, from, end, closer.length, open === "[");
  }

  /** Where a sign is next; it is looked for once, however often it is asked for. */
  #nextOf(sign: string, from: number): number | null {
    let place = this.#next.get(sign) ?? -1;
    if (place < from) {
      const found = this.#text.indexOf(sign, from);
      place = found < 0 ? Infinity : found;
      this.#next.set(sign, place);
      this.#work.steps += Math.min(place, this.#text.length) - from;
    }
    return place === Infinity ? null : place;
  }

  // -- code ---------------------------------------------------------------------------------------------------

  #code(): void {
    const length = this.#lengthOfRun("`");
    const places = this.#runsOfTicks().get(length) ?? [];
    while (places.length > 0 && (places.at(-1) ?? 0) <= this.#at) places.pop();
    const end = places.at(-1);
    if (end === undefined) return this.#literal(length);
    let code = this.#text.slice(this.#at + length, end).replaceAll("\n", " ");
    this.#work.steps += code.length;
    if (code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "") code = code.slice(1, -1);
    this.#pieces.push(`<code>${escaped(code)}</code>`);
    this.#at = end + length;
  }

  /** The places of each length from the last to the first, so that what lies behind us is taken off the end. */
  #runsOfTicks(): Map<number, number[]> {
    if (this.#ticks) return this.#ticks;
    this.#ticks = new Map();
    this.#work.steps += this.#text.length;
    for (const found of this.#text.matchAll(/`+/g)) {
      const places = this.#ticks.get(found[0].length);
      if (places) places.push(found.index);
      else this.#ticks.set(found[0].length, [found.index]);
    }
    for (const places of this.#ticks.values()) places.reverse();
    return this.#ticks;
  }

  #lengthOfRun(sign: string): number {
    let end = this.#at + 1;
    while (this.#text[end] === sign) end += 1;
    this.#work.steps += end - this.#at;
    return end - this.#at;
  }

  // -- emphasis -----------------------------------------------------------------------------------------------

  #run(sign: string): void {
    const length = this.#lengthOfRun(sign);
    if (sign === "~" && length > 2) return this.#literal(length);
    const before = this.#characterBefore();
    const after = String.fromCodePoint(this.#text.codePointAt(this.#at + length) ?? 10);
    const [isBlankBefore, isBlankAfter] = [/\s/.test(before), /\s/.test(after)];
    const [isPointBefore, isPointAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    const isLeft = !isBlankAfter && (!isPointAfter || isBlankBefore || isPointBefore);
    const isRight = !isBlankBefore && (!isPointBefore || isBlankAfter || isPointAfter);
    const isUnderscore = sign === "_";
    const run: Run = {
      kind: "run",
      sign,
      rest: length,
      length,
      canOpen: isLeft && (!isUnderscore || !isRight || isPointBefore),
      canClose: isRight && (!isUnderscore || !isLeft || isPointAfter),
      closes: [],
      opens: [],
      before: this.#lastRun,
      after: null,
    };
    this.#pieces.push(run);
    this.#at += length;
    if (!run.canOpen && !run.canClose) return;
    if (this.#lastRun) this.#lastRun.after = run;
    this.#lastRun = run;
  }

  #characterBefore(): string {
    const code = this.#text.charCodeAt(this.#at - 1);
    if (Number.isNaN(code)) return "\n";
    const isLowHalf = code >= 0xdc00 && code <= 0xdfff && this.#at > 1;
    return String.fromCodePoint(this.#text.codePointAt(this.#at - (isLowHalf ? 2 : 1)) ?? 10);
  }

  /** CommonMark's "process emphasis": pairs the runs above one, each looked at a bounded number of times. */
  #pair(below: Run | null): void {
    const bottoms = new Map<string, Run | null>();
    let closer = this.#firstAbove(below);
    while (closer) {
      this.#work.steps += 1;
      if (!closer.canClose) {
        closer = closer.after;
        continue;
      }
      const kind = `${closer.sign}${closer.canOpen}${closer.sign === "~" ? closer.length : closer.length % 3}`;
      const bottom = bottoms.get(kind) ?? below;
      let opener = closer.before;
      while (opener && opener !== bottom && opener !== below && !isPair(opener, closer)) {
        this.#work.steps += 1;
        opener = opener.before;
      }
      if (opener && opener !== bottom && opener !== below) {
        closer = this.#joined(opener, closer);
        continue;
      }
      bottoms.set(kind, closer.before);
      const next: Run | null = closer.after;
      if (!closer.canOpen) this.#remove(closer);
      closer = next;
    }
    this.#lastRun = below;
    if (below) below.after = null;
  }

  #firstAbove(below: Run | null): Run | null {
    if (below) return below.after;
    let run = this.#lastRun;
    while (run?.before) {
      this.#work.steps += 1;
      run = run.before;
    }
    return run;
  }

  /** Pairs two runs, and returns the run to go on with. */
  #joined(opener: Run, closer: Run): Run | null {
    const isTwo = opener.rest >= 2 && closer.rest >= 2;
    const used = closer.sign === "~" ? closer.rest : isTwo ? 2 : 1;
    const tag = closer.sign === "~" ? "del" : isTwo ? "strong" : "em";
    opener.opens.push(tag);
    closer.closes.push(tag);
    opener.rest -= used;
    closer.rest -= used;
    opener.after = closer;
    closer.before = opener;
    if (opener.rest === 0) this.#remove(opener);
    if (closer.rest > 0) return closer;
    const next = closer.after;
    this.#remove(closer);
    return next;
  }

  #remove(run: Run): void {
    if (run.before) run.before.after = run.after;
    if (run.after) run.after.before = run.before;
    else if (this.#lastRun === run) this.#lastRun = run.before;
  }

  // -- links --------------------------------------------------------------------------------------------------

  #bracket(length: number, isImage: boolean): void {
    const from = this.#at + length;
    this.#brackets.push({ piece: this.#pieces.length, from, isImage, below: this.#lastRun });
    this.#literal(length);
  }

  #closing(): void {
    const place = this.#brackets.length - 1;
    const bracket = this.#brackets.pop();
    const isSpent = place < this.#spent && !bracket?.isImage;
    this.#spent = Math.min(this.#spent, this.#brackets.length);
    const found = bracket && !isSpent ? this.#target(bracket) : null;
    if (!bracket || !found) return this.#literal(1);
    const words = this.#text.slice(bracket.from, this.#at);
    this.#at = found.end;
    if (words.startsWith("^") && found.target.href.startsWith(NOTE_ADDRESS)) return this.#reference(bracket, words, found.target);
    if (bracket.isImage) return this.#image(bracket, words, found.target);
    this.#pair(bracket.below);
    this.#pieces[bracket.piece] = opening(found.target);
    this.#pieces.push(CLOSING_LINK);
    this.#spent = this.#brackets.length;
  }

  /** What follows the bracket that closes: an address, a label, or nothing where the text itself is a label. */
  #target(bracket: Bracket): { target: Target; end: number } | null {
    const [text, at] = [this.#text, this.#at];
    const next = text[at + 1];
    if (next === "(") {
      const found = targetAt(text, at + 1, this.#work);
      if (found) return found;
    }
    if (this.#links.size === 0) return null;
    const words = at - bracket.from > 200 ? "" : text.slice(bracket.from, at);
    const label = next === "[" ? /\[([^[\]]{0,200})\]/y : null;
    if (label) label.lastIndex = at + 1;
    const second = label?.exec(text);
    this.#work.steps += words.length + (second?.[0].length ?? 0);
    const target = named(this.#links, second?.[1] || words);
    return target ? { target, end: at + 1 + (second?.[0].length ?? 0) } : null;
  }

  /** A reference to a footnote: its label, raised. */
  #reference(bracket: Bracket, words: string, target: Target): void {
    this.#pieces.length = bracket.piece;
    this.#lastRun = bracket.below;
    if (this.#lastRun) this.#lastRun.after = null;
    const raised = { kind: "tag", tag: "sup", html: "<sup>", source: null } as const;
    this.#pieces.push({ ...raised, isOpening: true }, opening(target), escaped(words.slice(1)));
    this.#pieces.push(CLOSING_LINK, { ...raised, isOpening: false });
  }

  /** Pictures from elsewhere are links: nothing is loaded that the reader did not ask for. */
  #image(bracket: Bracket, words: string, target: Target): void {
    this.#pieces.length = bracket.piece;
    this.#lastRun = bracket.below;
    if (this.#lastRun) this.#lastRun.after = null;
    const said = escapedButEntities(words || target.href);
    if (INLINE_IMAGE.test(target.href)) this.#pieces.push(`<img src="${escaped(target.href)}" alt="${said}">`);
    else this.#pieces.push(opening(target), said, CLOSING_LINK);
  }

  #link(href: string, words: string): void {
    this.#pieces.push(opening({ href, title: null }), escaped(words), CLOSING_LINK);
  }

  #address(): void {
    const before = this.#text[this.#at - 1] ?? "";
    const found = /[\p{L}\p{N}]/u.test(before) ? null : matchAt(BARE_ADDRESS, this.#text, this.#at);
    if (!found) return this.#literal(1);
    const address = found[0].slice(0, endOfAddress(found[0]));
    this.#work.steps += found[0].length;
    if (!/[\p{L}\p{N}]/u.test(address.slice(-1)) && address.length < 8) return this.#literal(1);
    this.#link(address.startsWith("http") || /^http/i.test(address) ? address : `http://${address}`, address);
    this.#at += address.length;
  }

  /** An e-mail address, where the plain text before the sign ends in a name. */
  #mail(plainFrom: number): void {
    const last = this.#pieces.at(-1);
    let from = this.#at;
    while (from > plainFrom && this.#at - from < 65 && /[\w.+-]/.test(this.#text[from - 1] ?? "")) from -= 1;
    this.#work.steps += this.#at - from;
    const isWhole = from > plainFrom || !/[\w.+-]/.test(this.#text[from - 1] ?? "");
    const isName = from < this.#at && this.#at - from < 65 && isWhole && typeof last === "string";
    const host = isName ? matchAt(MAIL_HOST, this.#text, this.#at) : null;
    if (!host || /[-_]$/.test(host[0])) return this.#literal(1);
    const name = this.#text.slice(from, this.#at);
    this.#pieces[this.#pieces.length - 1] = escaped(this.#text.slice(plainFrom, from));
    this.#link(`mailto:${name}${host[0]}`, `${name}${host[0]}`);
    this.#at += host[0].length;
  }

  // -- signs --------------------------------------------------------------------------------------------------

  #angle(): void {
    const [text, at] = [this.#text, this.#at];
    const address = matchAt(ADDRESS, text, at);
    const mail = address ? null : matchAt(MAIL_IN_SIGNS, text, at);
    const plain = address || mail ? null : matchAt(PLAIN_TAG, text, at);
    const any = address || mail || plain ? null : matchAt(ANY_TAG, text, at);
    const source = (address ?? mail ?? plain ?? any)?.[0] ?? "<";
    this.#work.steps += source.length;
    this.#at += source.length;
    if (address?.[1]) this.#link(address[1], address[1]);
    else if (mail?.[1]) this.#link(`mailto:${mail[1]}`, mail[1]);
    else if (plain?.[2]) this.#pieces.push(plainTag(plain[2], plain[1] === "", source));
    else this.#pieces.push(escaped(source));
  }

  #entity(): void {
    const found = matchAt(ENTITY, this.#text, this.#at);
    if (!found) return this.#literal(1);
    this.#pieces.push(found[0]);
    this.#at += found[0].length;
  }

  // -- writing ------------------------------------------------------------------------------------------------

  /** The pieces in order. Tags that are too deep are left out, those that nobody closed are closed. */
  #written(): string {
    const out = new HtmlWriter();
    for (const piece of this.#pieces) {
      this.#work.steps += 1;
      if (typeof piece === "string") out.text(piece);
      else if (piece.kind === "tag") out.tag(piece);
      else {
        for (const tag of piece.closes) out.close(tag);
        out.text(piece.sign.repeat(piece.rest));
        for (const tag of piece.opens.reverse()) out.open(tag, `<${tag}>`, true);
      }
    }
    return out.done();
  }
}

function isPair(opener: Run, closer: Run): boolean {
  if (opener.sign !== closer.sign || !opener.canOpen) return false;
  if (closer.sign === "~") return opener.length === closer.length && opener.rest === closer.rest;
  const isOdd = (closer.canOpen || opener.canClose) && closer.length % 3 !== 0;
  return !isOdd || (opener.length + closer.length) % 3 !== 0;
}

const CLOSING_LINK: Tag = { kind: "tag", tag: "a", isOpening: false, html: "", source: null };

function opening({ href, title }: Target): Tag {
  const more = title ? ` title="${escapedButEntities(title)}"` : "";
  return { kind: "tag", tag: "a", isOpening: true, html: `<a href="${escapedButEntities(href)}"${more}>`, source: null };
}

function plainTag(tag: string, isOpening: boolean, source: string): Piece {
  if (tag === "br") return "<br>";
  return { kind: "tag", tag, isOpening, html: `<${tag}>`, source };
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** An address in a sentence does not take the sentence's own signs along, nor a parenthesis that closes none of its own. */
function endOfAddress(address: string): number {
  let open = 0;
  for (const sign of address) open += sign === "(" ? 1 : sign === ")" ? -1 : 0;
  let end = address.length;
  for (; end > 0; end -= 1) {
    const sign = address[end - 1] ?? "";
    if (sign === ")" && open < 0) open += 1;
    else if (!/[?!.,:;*_~'"\]]/.test(sign)) break;
  }
  return end;
}

interface Open {
  tag: string;
  isWritten: boolean;
  isOurs: boolean;
}

class HtmlWriter {
  readonly #parts: string[] = [];
  readonly #stack: Open[] = [];
  #links = 0;

  text(html: string): void {
    this.#parts.push(html);
  }

  tag({ tag, isOpening, html, source }: Tag): void {
    if (isOpening) return this.open(tag, html, source === null);
    const top = this.#stack.at(-1);
    if (source === null) this.close(tag);
    else if (top && top.tag === tag && !top.isOurs) this.#pop();
    else this.text(escaped(source));
  }

  open(tag: string, html: string, isOurs: boolean): void {
    const isLink = tag === "a";
    const isWritten = this.#stack.length < INLINE_DEPTH_MOST && !(isLink && this.#links > 0);
    if (isLink) this.#links += 1;
    this.#stack.push({ tag, isWritten, isOurs });
    if (isWritten) this.text(html);
  }

  /** Closes a tag of ours, and the plain ones that were left open inside. */
  close(tag: string): void {
    while (this.#stack.length > 0) {
      const top = this.#pop();
      if (top?.isOurs && top.tag === tag) return;
    }
  }

  done(): string {
    while (this.#stack.length > 0) this.#pop();
    return this.#parts.join("");
  }

  #pop(): Open | undefined {
    const top = this.#stack.pop();
    if (top?.tag === "a") this.#links -= 1;
    if (top?.isWritten) this.text(`</${top.tag}>`);
    return top;
  }
}
