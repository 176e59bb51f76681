/**
 * One script tag: <script src="https://GATEWAY/widget.js" data-product="1" defer></script>
 *
 * Besides: data-title, data-lang, data-dir, data-side (start | end), data-theme (light), data-accent, data-open,
 * data-gateway (where the gateway is, if not where the script is). The page may do more with `AgentGatewayChat`.
 */

import { mountWidget, type Widget, type WidgetOptions } from "./widget.ts";

declare global {
  interface Window {
    AgentGatewayChat?: { mount: (options: WidgetOptions) => Widget; widget: Widget | null };
  }
}

const script = document.currentScript as HTMLScriptElement | null;
/** A tag that is on the page a second time finds what the first one made. */
const page = window.AgentGatewayChat ?? {
  mount: (options: WidgetOptions) => mountWidget(options),
  widget: null as Widget | null,
};
window.AgentGatewayChat = page;

function warn(words: string): void {
  console.warn(`Agent Gateway chat: ${words}`);
}

function start(): void {
  const data = script?.dataset ?? {};
  const productId = Number(data["product"]);
  if (!script) return;
  if (!Number.isInteger(productId) || productId < 1) {
    return warn('no chat is shown, because the script tag has no data-product="NUMBER". Add it, or call AgentGatewayChat.mount().');
  }
  if (page.widget?.host.isConnected) {
    return warn(`the script tag is on this page more than once. The first one is used; product ${productId} is not shown.`);
  }
  const gateway = new URL(data["gateway"] ?? new URL(".", script.src).href).href.replace(/\/$/, "");
  const given = { title: data["title"], lang: data["lang"], dir: data["dir"], side: data["side"], theme: data["theme"], accent: data["accent"] };
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  page.widget = mountWidget({ gateway, productId, isOpen: data["open"] !== undefined, ...named });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
