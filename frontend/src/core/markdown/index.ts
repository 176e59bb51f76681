/** An agent's Markdown → HTML, without a DOM: bounded, near-linear, never an exception. See bounds.ts. */

export { BLOCK_MOST, BLOCKS_MOST, ELEMENTS_MOST, Work } from "./bounds.ts";
export { BlockReader, type TopBlock } from "./blocks.ts";
export { type Maker, MarkdownDocument, type Span } from "./document.ts";
export { addDefinitions, type Links, NOTE_ADDRESS } from "./links.ts";
export { htmlOf, type Node } from "./nodes.ts";
export { escaped } from "./text.ts";
