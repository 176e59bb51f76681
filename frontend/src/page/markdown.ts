/**
 * An agent's Markdown → blocks of safe HTML.
 *
 * Guarantees: HTML that the agent wrote is shown as text, but for a few plain tags; the HTML of a block went through DOMPurify, with no style, no form, no class or data of ours to imitate,
 * no address but http, https and mailto; nothing is loaded from elsewhere (images become links). Reading is bounded
 * (`src/markdown`), and a block that cannot be drawn is shown as its text.
 */

import DOMPurify from "dompurify";
import { escaped, htmlOf, type Links, MarkdownDocument, NOTE_ADDRESS, type TopBlock, type Work } from "../core/markdown/index.ts";

export type Block =
  /** Its HTML is made when it is first asked for. */
  | { kind: "html"; readonly html: string; isHeading: boolean }
  | { kind: "code"; code: string; language: string }
  | { kind: "plain"; text: string };

const SAFE_ADDRESS = /^(?:https?:\/\/|mailto:)/i;
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

/** Classes that the grammar gives: what a code is written in, and what the page gives a look of its own. */
const CLASSES: Record<string, RegExp> = { CODE: /^language-[\w+#-]+$/, DIV: /^(?:wide|note)$/, LI: /^task$/ };
const NO_CLASS = /(?!)/;

const ALLOWED_TAGS = (
  "a abbr b blockquote br caption code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s " +
  "samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var"
).split(" ");
const ALLOWED_ATTR = "href src alt title class colspan rowspan align start open".split(" ");

const purifier = DOMPurify(window);
// Once, and not with each block: reading them takes longer than a short block does.
purifier.setConfig({ ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
purifier.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class") data.keepAttr = (CLASSES[node.nodeName] ?? NO_CLASS).test(data.attrValue);
});
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    const address = node.getAttribute("href") ?? "";
    if (isNoteAddress(address)) return;
    if (!SAFE_ADDRESS.test(address)) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  if (node.nodeName === "IMG" && !INLINE_IMAGE.test(node.getAttribute("src") ?? "")) node.remove();
});

/** True if a link leads to a footnote of the same text, and nowhere else. */
export function isNoteAddress(address: string): boolean {
  return address.startsWith(NOTE_ADDRESS) && /^[\w-]{1,50}$/.test(address.slice(NOTE_ADDRESS.length));
}

export function sanitised(html: string): string {
  return purifier.sanitize(html);
}

/** Characters of HTML that are kept, so that a conversation which is opened again is not made again. */
const CACHE_MOST = 2_000_000;
const cache = new Map<string, string>();
let cached = 0;

function madeOf(block: TopBlock, raw: string, links: Links, work: Work): Block {
  const { node } = block;
  if (node.kind === "code" && node.language !== "math") return { kind: "code", code: node.text, language: node.language };
  let made: string | null = null;
  return {
    kind: "html",
    isHeading: node.kind === "heading" && node.level < 4,
    get html() {
      return (made ??= htmlMade(block, raw, links, work));
    },
  };
}

function htmlMade(block: TopBlock, raw: string, links: Links, work: Work): string {
  // What a link's label means is another in each text, and a part of a cut block depends on what is before it.
  const isOwn = links.size > 0 || block.isContinued;
  const known = isOwn ? undefined : cache.get(raw);
  if (known !== undefined) return known;
  const html = made(block, raw, links, work);
  if (!isOwn) keep(raw, html);
  return html;
}

/** A block that cannot be made is its text. */
function made({ node }: TopBlock, raw: string, links: Links, work: Work): string {
  try {
    return sanitised(htmlOf(node, links, work));
  } catch {
    return sanitised(escaped(raw));
  }
}

function keep(raw: string, html: string): void {
  if (cached > CACHE_MOST) {
    cache.clear();
    cached = 0;
  }
  cached += raw.length + html.length;
  cache.set(raw, html);
}

/** How many elements it is made of. */
export function elementsOf(block: Block): number {
  return block.kind === "html" ? (block.html.match(/<[a-z]/g)?.length ?? 0) : 1;
}

/** A text that may still grow. */
export function newDocument(): MarkdownDocument<Block> {
  return new MarkdownDocument<Block>({ block: madeOf, plain: (text) => ({ kind: "plain", text }) });
}

/** The blocks of a whole text, in order. */
export function blocksOf(text: string): Block[] {
  const document = newDocument();
  document.set(text, true);
  document.advance(() => true);
  return document.blocks;
}
