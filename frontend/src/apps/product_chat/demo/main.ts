/** The demonstration product page: what a shop has, and the widget by its one script tag. */

import type { CatalogueProduct } from "../wire.ts";

const query = new URLSearchParams(location.search);
const id = Number(query.get("id") ?? "1");
const isHebrew = query.get("lang") === "he";
if (isHebrew) {
  document.documentElement.lang = "he";
  document.documentElement.dir = "rtl";
}

async function show(): Promise<void> {
  const answer = await fetch(`../api/products/${encodeURIComponent(id)}`);
  const product = (await answer.json()) as Partial<CatalogueProduct> & { detail?: string };
  const put = (selector: string, text: string): void => {
    const found = document.querySelector(selector);
    if (found) found.textContent = text;
  };
  put("h1", product.name ?? product.detail ?? "");
  put("#price", product.price ?? "");
  put("#description", product.description ?? "");
  document.title = product.name ?? document.title;
}

const script = document.createElement("script");
script.src = new URL("../widget.js", location.href).href;
script.dataset["product"] = String(id);
document.body.append(script);
void show();
