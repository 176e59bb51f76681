/**
 * An agent's Markdown → blocks of safe HTML.
 *
 * Guarantees: HTML that the agent wrote is shown as text, but for a few plain tags; the HTML of a block went through DOMPurify, with no style, no form, no class or data of ours to imitate,
 * no address but http, https and mailto; nothing is loaded from elsewhere (images become links). Blocks with equal text
 * are made once, so that a growing answer costs its last block and not its length.
 */

import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";

export type Block =
  { kind: "html"; key: string; html: string } | { kind: "code"; key: string; code: string; language: string };

const SAFE_ADDRESS = /^(?:https?:\/\/|mailto:)/i;
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

/** Tags that mean something in Markdown and carry nothing; any other is shown as the text that it is. */
const ESCAPED_PLAIN_TAG = /&#60;(\/?)(br|sub|sup|kbd|mark|u|s|b|i|em|strong|details|summary) ?\/?&#62;/g;

const marked = new Marked({
  gfm: true,
  breaks: false,
  renderer: {
    image({ href, text }) {
      const words = escape(text || href);
      if (INLINE_IMAGE.test(href)) return `<img src="${escape(href)}" alt="${words}">`;
      return `<a href="${escape(href)}">${words}</a>`;
    },
    html({ text, block }) {
      const words = escape(text).replace(ESCAPED_PLAIN_TAG, "<$1$2>");
      return block ? `<div>${words}</div>` : words;
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

const purifier = DOMPurify(window);
purifier.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class")
    data.keepAttr = node.nodeName === "CODE" && /^language-[\w+#-]+$/.test(data.attrValue);
});
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    if (!SAFE_ADDRESS.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  if (node.nodeName === "IMG" && !INLINE_IMAGE.test(node.getAttribute("src") ?? "")) node.remove();
});

const ALLOWED_TAGS = (
  "a abbr b blockquote br caption code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s " +
  "samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var"
).split(" ");
const ALLOWED_ATTR = "href src alt title class colspan rowspan align start open".split(" ");

export function sanitised(html: string): string {
  return purifier.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
}

const CACHE_MOST = 2_000;
const cache = new Map<string, string>();

function htmlOf(token: Token): string {
  const known = cache.get(token.raw);
  if (known !== undefined) return known;
  const html = sanitised(marked.parser([token]));
  if (cache.size >= CACHE_MOST) cache.clear();
  cache.set(token.raw, html);
  return html;
}

/** The blocks of a text, in order. Keys are stable while the text grows at its end. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const tokens = marked.lexer(text);
  const hasReferences = Object.keys(tokens.links).length > 0;
  for (const token of tokens) {
    if (token.type === "space" || token.type === "def") continue;
    const key = String(blocks.length);
    if (token.type === "code") {
      const { text: code, lang } = token as Tokens.Code;
      blocks.push({ kind: "code", key, code, language: (lang ?? "").split(/\s/)[0] ?? "" });
    } else {
      // What a reference means may change with a later line, so its block is not taken from the cache.
      const html = hasReferences ? sanitised(marked.parser([token])) : htmlOf(token);
      blocks.push({ kind: "html", key, html });
    }
  }
  return blocks;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
