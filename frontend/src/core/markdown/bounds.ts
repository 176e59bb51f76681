/**
 * How much of an agent's text is drawn as Markdown. An agent says whatever a model or a tool's output made it say, so
 * a reader may meet any text: these bounds hold its work near-linear and each block small enough for one drawing.
 */

/** A top-level block ends here, in characters; each list item, quote and table cell counts as a few. Longer ones are cut. */
export const BLOCK_MOST = 12_000;
export const WEIGHT_OF_NODE = 10;

/** A text has no more blocks; what is behind them is plain text. */
export const BLOCKS_MOST = 50_000;

/** Of a text no more elements are on the page at once; what comes near the reader beside them is plain text. */
export const ELEMENTS_MOST = 20_000;

/** Lines are read so many characters at a time; then something else may have its turn. */
export const READ_AT_ONCE = 100_000;

/** Quotes, lists and items inside each other. What is deeper is the text of a paragraph. */
export const CONTAINERS_MOST = 24;

/** Emphasis, links and plain tags inside each other. What is deeper is shown without its style. */
export const INLINE_DEPTH_MOST = 16;

/** A table with more columns is shown as the text that it is. */
export const COLUMNS_MOST = 64;

/** An address or title of a link. */
export const TARGET_MOST = 4_000;
export const PARENTHESES_MOST = 32;

/** A formula: longer ones, and those of more lines, are shown as their source. */
export const MATH_MOST = 4_000;
export const MATH_LINES_MOST = 200;

/** `[label]: address` lines, and the length of a label. */
export const DEFINITIONS_MOST = 1_000;
export const LABEL_MOST = 200;

/** Counts what was done, so that a test can say how it grows with the text. */
export class Work {
  steps = 0;
}
