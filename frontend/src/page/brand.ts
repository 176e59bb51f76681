/** The operator's name, logo, colours and words, as the gateway gives them with its first answer. */

import { effect, signal } from "@preact/signals";
import type { Branding } from "../core/index.ts";
import { t } from "./preferences.ts";

export const brand = signal<Branding>({});

/** What the page is called. */
export function appName(): string {
  return brand.value.name ?? t("app");
}

/** Takes a look over; it is drawn anew only if it is another one. */
export function takeBrand(look: Branding = {}): void {
  if (JSON.stringify(look) !== JSON.stringify(brand.peek())) brand.value = look;
}

effect(() => {
  const { accent, accent_dark } = brand.value;
  const { dataset, style } = document.documentElement;
  if (accent === undefined) delete dataset["brand"];
  else dataset["brand"] = "own";
  style.setProperty("--brand", accent ?? "");
  style.setProperty("--brand-dark", accent_dark ?? accent ?? "");
});
