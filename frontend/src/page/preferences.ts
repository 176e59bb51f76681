/** Theme and language: signals that know where they are stored and what they do to the document. */

import { computed, effect, signal } from "@preact/signals";
import {
  directionOf,
  type Key,
  type KeyValue,
  type Language,
  lastingStorage,
  loadLanguage,
  type Params,
  preferred,
  translate,
} from "../core/index.ts";

export type Theme = "light" | "dark";

/** localStorage if the browser allows it, else memory. */
export const storage: KeyValue = lastingStorage();

const THEME_KEY = "agw.theme";
const LANGUAGE_KEY = "agw.language";

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const systemTheme = signal<Theme>(systemDark.matches ? "dark" : "light");
const chosenTheme = signal<Theme | null>(oneOf(storage.getItem(THEME_KEY), ["light", "dark"] as const));
export const theme = computed<Theme>(() => chosenTheme.value ?? systemTheme.value);

/** What is shown: another language than English once its words are here. */
export const language = signal<Language>("en");

export function t(key: Key, params?: Params): string {
  return translate(language.value, key, params);
}

/** A moment in the reader's own time and words. */
export function moment(iso: string): string {
  return new Date(iso).toLocaleString(language.value, { dateStyle: "medium", timeStyle: "short" });
}

export function toggleTheme(): void {
  const next = theme.value === "dark" ? "light" : "dark";
  chosenTheme.value = next;
  storage.setItem(THEME_KEY, next);
}

export function toggleLanguage(): void {
  const next = language.value === "en" ? "he" : "en";
  storage.setItem(LANGUAGE_KEY, next);
  void show(next);
}

/** If its words cannot be fetched, the page stays as it is. */
async function show(wanted: Language): Promise<void> {
  try {
    await loadLanguage(wanted);
    language.value = wanted;
  } catch (error) {
    console.warn("The words of this language could not be fetched:", error);
  }
}

/** Keeps the document's attributes and the system's choice in step. Done once the reader's language is here. */
export function applyPreferences(): Promise<void> {
  systemDark.addEventListener("change", () => {
    systemTheme.value = systemDark.matches ? "dark" : "light";
  });
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
  effect(() => {
    document.documentElement.lang = language.value;
    document.documentElement.dir = directionOf(language.value);
  });
  return show(oneOf(storage.getItem(LANGUAGE_KEY), ["en", "he"] as const) ?? preferred(navigator.languages));
}

function oneOf<T extends string>(value: string | null, allowed: readonly T[]): T | null {
  return allowed.find((one) => one === value) ?? null;
}
