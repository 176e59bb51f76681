/**
 * Formulas in a text: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`.
 *
 * Guarantees: prices, variables of a shell and other lone dollars stay text; a formula is no longer than MATH_MOST;
 * looking for the end of one never reads a part of the text twice.
 */

import { MATH_MOST, type Work } from "./bounds.ts";
import { escaped } from "./text.ts";

export interface Formula {
  tex: string;
  isDisplay: boolean;
  /** Where the text behind it begins. */
  end: number;
}

/** A formula as its source, which is what is shown until it is drawn. */
export function formulaHtml(tex: string, isDisplay: boolean): string {
  return `<code class="language-math${isDisplay ? "-display" : ""}">${escaped(tex.trim())}</code>`;
}

/** The formula that begins with the dollar at a place, or null. */
export function betweenDollars(text: string, at: number, work: Work): Formula | null {
  if (text[at + 1] !== "$") return betweenSingle(text, at, work);
  const end = text[at + 2] === "$" ? -1 : text.indexOf("$$", at + 2);
  work.steps += end < 0 ? 2 : end - at;
  return end < 0 ? null : formula(text, at + 2, end, 2, true);
}

function betweenSingle(text: string, at: number, work: Work): Formula | null {
  if (/[A-Za-z\d]/.test(text[at - 1] ?? "") || /^\s?$/.test(text[at + 1] ?? "")) return null;
  let end = text.indexOf("$", at + 1);
  while (end >= 0 && end - at <= MATH_MOST && isTakenAway(text, end)) end = text.indexOf("$", end + 1);
  work.steps += end < 0 ? 1 : end - at;
  if (end < 0 || /\s/.test(text[end - 1] ?? "") || /[A-Za-z\d$]/.test(text[end + 1] ?? "")) return null;
  const found = formula(text, at + 1, end, 1, false);
  return found && isPrice(found.tex) ? null : found;
}

/** True if a backslash takes the meaning of a sign away. */
function isTakenAway(text: string, at: number): boolean {
  return text[at - 1] === "\\" && text[at - 2] !== "\\";
}

/** An amount with words behind it, up to another amount: `5 a month, or 50 a year for 2`. */
function isPrice(text: string): boolean {
  return /^\d/.test(text) && /[A-Za-z]{2}/.test(text) && !/[\\^_={}<>+*]/.test(text);
}

/** What is between two places, if that is a formula. */
export function formula(text: string, from: number, to: number, closing: number, isDisplay: boolean): Formula | null {
  if (to - from > MATH_MOST) return null;
  const tex = text.slice(from, to);
  return tex.trim() === "" || tex.includes("`") ? null : { tex, isDisplay, end: to + closing };
}

/** What ends the formula that a line begins and does not end, or null if it begins none. */
export function openFormula(line: string): string | null {
  const sign = line.startsWith("$$") ? "$$" : line.startsWith("\\[") ? "\\]" : null;
  return sign === null || line.includes(sign, 2) || line.startsWith("$$$") ? null : sign;
}
