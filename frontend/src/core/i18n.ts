/** The page's words in the reader's language. A language that lacks a word does not compile. */

import { en, type Key } from "./english.ts";

export type { Key } from "./english.ts";
export type Language = "en" | "he";

/** English is always there: it stands in for a language that is not here yet. */
const catalogue: Partial<Record<Language, Record<Key, string>>> = { en };

/** Fetches the words of a language. It fails if they cannot be fetched; it may be asked again. */
export async function loadLanguage(language: Language): Promise<void> {
  if (language === "he") catalogue.he ??= (await import("./hebrew.ts")).he;
}

export type Params = Record<string, string | number>;

export function isKey(text: string): text is Key {
  return Object.hasOwn(en, text);
}

/** The words for `key` with `{name}` filled in. */
export function translate(language: Language, key: Key, params: Params = {}): string {
  return (catalogue[language] ?? en)[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole));
}

export function directionOf(language: Language): "ltr" | "rtl" {
  return language === "he" ? "rtl" : "ltr";
}

/** The language a browser asks for, of those there are. */
export function preferred(languages: readonly string[]): Language {
  for (const tag of languages) {
    const base = tag.toLowerCase().split("-")[0];
    if (base === "he" || base === "iw") return "he";
    if (base === "en") return "en";
  }
  return "en";
}
