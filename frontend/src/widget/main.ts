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
const page = { mount: (options: WidgetOptions) => mountWidget(options), widget: null as Widget | null };
window.AgentGatewayChat = page;

function start(): void {
  const data = script?.dataset ?? {};
  const productId = Number(data["product"]);
  if (!script || !Number.isInteger(productId) || productId < 1) return;
  const gateway = new URL(data["gateway"] ?? new URL(".", script.src).href).href.replace(/\/$/, "");
  const given = { title: data["title"], lang: data["lang"], dir: data["dir"], side: data["side"], theme: data["theme"], accent: data["accent"] };
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  page.widget = mountWidget({ gateway, productId, isOpen: data["open"] !== undefined, ...named });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
