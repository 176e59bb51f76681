/** Two texts → rows with line numbers and the words that differ; Myers' comparison, in bounded time. Pure. */

import { diffArrays, diffWordsWithSpace } from "diff";
import { linesOf } from "./diff.ts";

export interface DiffSide {
  number: number;
  text: string;
  /** Where words differ, as places in the text. */
  marks: [number, number][];
}

/** A row has the same line on both sides, or a removed one on the left, or an added one on the right, or both. */
export type DiffRow = { kind: "same" | "changed"; left: DiffSide | null; right: DiffSide | null } | { kind: "gap"; count: number };

const CONTEXT = 3;
/** What takes longer is shown as removed and added as a whole. */
const LINES_MS = 60;
const EDITS_MOST = 4_000;
/** Of one comparison of words. */
const WORDS_MS = 10;
const WORD_EDITS_MOST = 60;
const MARKED_LINE_MOST = 400;
const MARKED_LINES_MOST = 200;
/** Lines that share less are others, not changed ones. */
const SHARED_LEAST = 0.3;

export function rowsOf(before: string, after: string): DiffRow[] {
  const [a, b] = [linesOf(before), linesOf(after)];
  const changes = diffArrays(a, b, { timeout: LINES_MS, maxEditLength: EDITS_MOST }) ?? [
    { value: a, removed: true, added: false },
    { value: b, removed: false, added: true },
  ];
  const rows: DiffRow[] = [];
  let [left, right, marked] = [0, 0, 0];
  const leftOf = (text: string): DiffSide => ({ number: (left += 1), text, marks: [] });
  const rightOf = (text: string): DiffSide => ({ number: (right += 1), text, marks: [] });
  for (let at = 0; at < changes.length; at += 1) {
    const change = changes[at];
    if (!change) continue;
    if (!change.removed && !change.added) {
      for (const text of change.value) rows.push({ kind: "same", left: leftOf(text), right: rightOf(text) });
      continue;
    }
    const next = changes[at + 1];
    const removed = change.removed ? change.value : [];
    const added = change.added ? change.value : change.removed && next?.added ? next.value : [];
    if (change.removed && next?.added) at += 1;
    for (let line = 0; line < Math.max(removed.length, added.length); line += 1) {
      const [old, fresh] = [removed[line], added[line]];
      const row = { kind: "changed" as const, left: old === undefined ? null : leftOf(old), right: fresh === undefined ? null : rightOf(fresh) };
      if (row.left && row.right && (marked += 1) <= MARKED_LINES_MOST) mark(row.left, row.right);
      rows.push(row);
    }
  }
  return withGaps(rows);
}

/** Notes where the words of two lines differ. */
function mark(left: DiffSide, right: DiffSide): void {
  const longest = Math.max(left.text.length, right.text.length);
  if (longest > MARKED_LINE_MOST) return;
  const words = diffWordsWithSpace(left.text, right.text, { timeout: WORDS_MS, maxEditLength: WORD_EDITS_MOST });
  if (!words) return;
  let [shared, inLeft, inRight] = [0, 0, 0];
  const marks: { left: [number, number][]; right: [number, number][] } = { left: [], right: [] };
  for (const { value, added, removed } of words) {
    if (removed) marks.left.push([inLeft, inLeft + value.length]);
    else if (added) marks.right.push([inRight, inRight + value.length]);
    else shared += value.trim().length;
    if (!added) inLeft += value.length;
    if (!removed) inRight += value.length;
  }
  if (shared < SHARED_LEAST * longest) return;
  left.marks = marks.left;
  right.marks = marks.right;
}

/** Leaves out what is far from a change. */
function withGaps(rows: readonly DiffRow[]): DiffRow[] {
  const isNear = new Uint8Array(rows.length);
  rows.forEach((row, place) => {
    if (row.kind === "changed") isNear.fill(1, Math.max(0, place - CONTEXT), place + CONTEXT + 1);
  });
  const shown: DiffRow[] = [];
  rows.forEach((row, place) => {
    if (isNear[place]) return void shown.push(row);
    const last = shown.at(-1);
    if (last?.kind === "gap") last.count += 1;
    else shown.push({ kind: "gap", count: 1 });
  });
  return shown;
}

/** Coloured HTML → one piece a line, each with its own tags closed. */
export function htmlLines(html: string): string[] {
  const lines: string[] = [];
  let open: string[] = [];
  for (const line of html.split("\n")) {
    const before = open.join("");
    for (const [tag] of line.matchAll(/<span[^>]*>|<\/span>/g)) open = tag === "</span>" ? open.slice(0, -1) : [...open, tag];
    lines.push(before + line + "</span>".repeat(open.length));
  }
  return lines;
}

/** Puts marks around parts of the text that a line of HTML shows. */
export function marked(html: string, marks: readonly (readonly [number, number])[]): string {
  if (marks.length === 0) return html;
  let [out, at, next, isIn] = ["", 0, 0, false];
  for (const [token] of html.matchAll(/<[^>]*>|&[#\w]+;|[^<&]|&/gu)) {
    if (token.length > 1 && token.startsWith("<")) {
      out += isIn ? `</mark>${token}<mark>` : token;
      continue;
    }
    const range = marks[next];
    if (!isIn && range && at >= range[0]) [out, isIn] = [`${out}<mark>`, true];
    out += token;
    at += token.startsWith("&") && token.length > 1 ? 1 : token.length;
    if (isIn && range && at >= range[1]) [out, isIn, next] = [`${out}</mark>`, false, next + 1];
  }
  return isIn ? `${out}</mark>` : out;
}
