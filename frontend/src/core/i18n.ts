/** The page's words in the reader's language. A language that lacks a word does not compile. */

import { en, type Key } from "./english.ts";
import { filled, type Language, type Params } from "./language.ts";

export type { Key } from "./english.ts";
export * from "./language.ts";

/** English is always there: it stands in for a language that is not here yet. */
const catalogue: Partial<Record<Language, Record<Key, string>>> = { en };

/** Fetches the words of a language. It fails if they cannot be fetched; it may be asked again. */
export async function loadLanguage(language: Language): Promise<void> {
  if (language === "he") catalogue.he ??= (await import("./hebrew.ts")).he;
}

export function isKey(text: string): text is Key {
  return Object.hasOwn(en, text);
}

/** The words for `key` with its parameters filled in. */
export function translate(language: Language, key: Key, params: Params = {}): string {
  return filled(language, (catalogue[language] ?? en)[key], params);
}
