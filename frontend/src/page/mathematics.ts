/**
 * Formulas in the HTML of a block → MathML, loaded with the first formula.
 *
 * Guarantees: TeX is read in a thread of its own that is ended if it takes long; what it makes went through DOMPurify,
 * which leaves elements of MathML without an address, an id or a style; what cannot be drawn is its source, with the
 * reason; a formula that was drawn once is there at once the next time.
 */

import DOMPurify from "dompurify";
import { systemClock } from "../core/clock.ts";
import { escaped } from "../core/markdown/index.ts";
import { Highlighter, threadOf } from "./highlighter.ts";
import type { DrawnFormula } from "./math.worker.ts";
import "./math.css";
import { t } from "./preferences.ts";

const FORMULA = /<code class="language-math(-display)?">([^<]*)<\/code>/g;
/** Formulas that are kept. */
const KEPT_MOST = 2_000;
/** In one question; a block has about as many at most. */
const ASKED_MOST = 25_000;
const DEADLINE_MS = 3_000;

const TAGS = (
  "math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle " +
  "msub msubsup msup mtable mtd mtext mtr munder munderover none"
).split(" ");
const ATTRIBUTES = (
  "accent accentunder class columnalign columnlines columnspan depth dir display displaystyle fence form height largeop " +
  "linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowspan rspace " +
  "scriptlevel separator stretchy symmetric voffset width"
).split(" ");

const purifier = DOMPurify(window);
const reader = new Highlighter(
  () => threadOf(() => new Worker(new URL("./math.worker.ts", import.meta.url), { type: "module" })),
  systemClock.after,
  DEADLINE_MS,
);

/** What each formula came to: HTML, or null while its thread is at it. */
const known = new Map<string, string | null>();
const listeners = new Set<() => void>();

interface SoughtFormula {
  key: string;
  tex: string;
  isDisplay: boolean;
}

function found(display: string | undefined, source: string): SoughtFormula {
  const isDisplay = display !== undefined;
  return { key: `${isDisplay ? "d" : "i"}${source}`, tex: textOf(source), isDisplay };
}

const SIGNS: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', "#39": "'", nbsp: "\u00a0" };

/** The text of serialised HTML without tags. */
function textOf(html: string): string {
  return html.replace(/&(lt|gt|amp|quot|#39|nbsp);/g, (_whole, name: string) => SIGNS[name] ?? "");
}

/** The HTML with those formulas drawn that are known. */
export function withFormulas(html: string): string {
  return html.replace(FORMULA, (source, display: string | undefined, tex: string) => known.get(found(display, tex).key) ?? source);
}

/** Draws what is not known, and calls whenever something is. What is returned ends that. */
export function drawFormulas(html: string, call: () => void): () => void {
  const all = [...html.matchAll(FORMULA)].map(([, display, tex = ""]) => found(display, tex));
  const unknown = [...new Map(all.filter(({ key }) => !known.has(key)).map((one) => [one.key, one])).values()];
  if (known.size > KEPT_MOST) for (const [key, made] of known) if (made !== null) known.delete(key);
  for (const one of unknown) known.set(one.key, null);
  for (let at = 0, length = 0, from = 0; at < unknown.length; at += 1) {
    length += (unknown[at]?.tex.length ?? 0) * 2 + 10;
    if (length < ASKED_MOST && at < unknown.length - 1) continue;
    ask(unknown.slice(from, at + 1));
    [from, length] = [at + 1, 0];
  }
  listeners.add(call);
  return () => void listeners.delete(call);
}

function ask(formulas: readonly SoughtFormula[]): void {
  const question = JSON.stringify(formulas.map(({ tex, isDisplay }) => [tex, isDisplay]));
  reader.colour(question, "", (answer) => {
    // If one of them takes too long, the others do not: each is asked for by itself.
    if (answer === null && formulas.length > 1) return formulas.forEach((one) => ask([one]));
    const drawn = answer === null ? [{ reason: t("formulaSlow") }] : (JSON.parse(answer) as DrawnFormula[]);
    formulas.forEach((one, place) => known.set(one.key, htmlOf(one, drawn[place] ?? {})));
    for (const call of [...listeners]) call();
  });
}

function htmlOf({ tex, isDisplay }: SoughtFormula, { mathml, reason = "" }: DrawnFormula): string {
  const safe = mathml && purifier.sanitize(mathml, { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ATTRIBUTES, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
  if (!safe) return `<code dir="ltr">${escaped(tex)}</code> <small class="formula-why">${escaped(t("formulaBad", { reason }))}</small>`;
  const made = safe.replace("<math", '<math dir="ltr"');
  return isDisplay ? `<span class="formula" dir="ltr" tabindex="0" role="group" aria-label="${escaped(t("formula"))}">${made}</span>` : made;
}
