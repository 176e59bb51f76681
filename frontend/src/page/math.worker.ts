/**
 * TeX → MathML, in a thread of its own; started when the first formula is drawn.
 *
 * Guarantees: nothing of a formula leads anywhere or gives a class, an id or a style; macros are expanded a bounded
 * number of times; what is drawn has no more than ELEMENTS_MOST elements and is no deeper than DEPTH_MOST.
 */

import temml from "temml";

const EXPANSIONS_MOST = 300;
/** In em, of a rule or a space. */
const SIZE_MOST = 20;
const ELEMENTS_MOST = 3_000;
const DEPTH_MOST = 60;

export interface DrawnFormula {
  mathml?: string;
  /** Why it cannot be drawn. */
  reason?: string;
}

export function drawnFormula(tex: string, isDisplay: boolean): DrawnFormula {
  try {
    const mathml = withoutStyles(
      temml.renderToString(tex, {
        displayMode: isDisplay,
        throwOnError: true,
        trust: false,
        maxExpand: EXPANSIONS_MOST,
        maxSize: [SIZE_MOST, SIZE_MOST],
      }),
    );
    return isSmall(mathml) ? { mathml } : { reason: "too large" };
  } catch (error) {
    return { reason: reasonOf(error) };
  }
}

/** What is wrong, without the library's picture of the place. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error && error.name !== "RangeError" ? error.message : "too deep";
  return (text.split(/ at (?:position|end)|: ?\n/)[0] ?? "").replace(/^(?:KaTeX|Temml) parse error: /i, "").slice(0, 200);
}

function isSmall(mathml: string): boolean {
  let [depth, count] = [0, 0];
  for (const [, slash] of mathml.matchAll(/<(\/?)[a-z]/g)) {
    depth += slash ? -1 : 1;
    count += slash ? 0 : 1;
    if (depth > DEPTH_MOST || count > ELEMENTS_MOST) return false;
  }
  return true;
}

/** The page's policy allows no style in an element: what matters of one becomes a class or an attribute. */
function withoutStyles(mathml: string): string {
  return mathml.replace(/<([a-z]+)((?: [\w-]+="[^"]*")*)/g, (whole, tag: string, attributes: string) => {
    const style = / style="([^"]*)"/.exec(attributes)?.[1];
    if (style === undefined) return whole;
    const rest = attributes.replace(/ style="[^"]*"/, "");
    const names = STYLES.filter(([pattern]) => pattern.test(style)).map(([, name]) => name);
    const colour = /(?:^|;)color:(#[\da-f]{3,8}|[a-z]+);/i.exec(style)?.[1];
    const more = colour === undefined ? "" : ` mathcolor="${colour}"`;
    return `<${tag}${withClasses(rest, names)}${more}`;
  });
}

const STYLES: readonly (readonly [RegExp, string])[] = [
  [/padding-left:0(?:em|pt);/, "math-l0"],
  [/padding-left:1em;/, "math-l1"],
  [/padding-right:0(?:em|pt);/, "math-r0"],
  [/border-right:/, "math-br"],
  [/border-left:/, "math-bl"],
  [/border-top:/, "math-bt"],
  [/border-bottom:/, "math-bb"],
  [/border:/, "math-box"],
  [/width:100%;/, "math-whole"],
  [/width:50%;/, "math-half"],
];

function withClasses(attributes: string, names: string[]): string {
  if (names.length === 0) return attributes;
  const known = / class="([^"]*)"/.exec(attributes)?.[1];
  const all = ` class="${[...(known ? [known] : []), ...names].join(" ")}"`;
  return known === undefined ? attributes + all : attributes.replace(/ class="[^"]*"/, all);
}

self.onmessage = (event: MessageEvent<{ code: string }>) => {
  const asked = JSON.parse(event.data.code) as [string, boolean][];
  self.postMessage(JSON.stringify(asked.map(([tex, isDisplay]) => drawnFormula(tex, isDisplay))));
};
