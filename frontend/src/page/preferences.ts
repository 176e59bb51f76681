/** What the reader has chosen: signals that know where they are stored and what they do to the document. */

import { computed, effect, type Signal, signal } from "@preact/signals";
import {
  directionOf,
  filled,
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
export const THEMES = ["system", "light", "dark"] as const;
export const DENSITIES = ["comfortable", "compact"] as const;
export const TEXT_SIZES = ["small", "normal", "large", "largest"] as const;
/** `enter` sends; or it begins a new line, and sends with Ctrl or Cmd. */
export const ENTERS = ["send", "line"] as const;

/** True if what somebody wrote and has not sent lasts no longer than this page. */
export const isForgetful = signal(false);
const WRITTEN = /^agw\.(draft|files|outbox)\./;

/** localStorage if the browser allows it, else memory. */
export const storage: KeyValue = lastingStorage((name, isLasting) => {
  if (WRITTEN.test(name)) isForgetful.value = !isLasting;
});

const LANGUAGE_KEY = "agw.language";

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const systemTheme = signal<Theme>(systemDark.matches ? "dark" : "light");
export const chosenTheme = kept("theme", THEMES);
export const theme = computed<Theme>(() => (chosenTheme.value === "system" ? systemTheme.value : chosenTheme.value));
export const density = kept("density", DENSITIES);
export const textSize = kept("text", TEXT_SIZES, "normal");
export const enter = kept("enter", ENTERS);
/** Shortcuts of a single key, which somebody who dictates would press by chance. */
export const singleKeys = keptSwitch("keys", true);
/** Told when something waits while the page is not seen, if the browser allows it. */
export const notify = keptSwitch("notify", false);
/** A sound when something waits. */
export const sound = keptSwitch("sound", false);

/** What is shown: another language than English once its words are here. */
export const language = signal<Language>("en");

export function t(key: Key, params?: Params): string {
  return translate(language.value, key, params);
}

/** The same for texts that are fetched with what needs them, in both languages. */
export function textsOf<Word extends string>(
  texts: Record<Language, Record<Word, string>>,
): (word: Word, params?: Params) => string {
  return (word, params = {}) => filled(language.value, texts[language.value][word], params);
}

/** A moment in the reader's own time and words. */
export function moment(iso: string): string {
  return new Date(iso).toLocaleString(language.value, { dateStyle: "medium", timeStyle: "short" });
}

export function toggleTheme(): void {
  chosenTheme.value = theme.value === "dark" ? "light" : "dark";
}

export function toggleLanguage(): void {
  chooseLanguage(language.value === "en" ? "he" : "en");
}

export function chooseLanguage(next: Language): void {
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
    const { dataset } = document.documentElement;
    dataset["theme"] = theme.value;
    dataset["density"] = density.value;
    dataset["text"] = textSize.value;
  });
  effect(() => {
    document.documentElement.lang = language.value;
    document.documentElement.dir = directionOf(language.value);
  });
  return show(oneOf(storage.getItem(LANGUAGE_KEY), ["en", "he"] as const) ?? preferred(navigator.languages));
}

/** One of these, the first unless another was chosen before; kept when it changes. */
function kept<T extends string>(name: string, allowed: readonly [T, ...T[]], first: T = allowed[0]): Signal<T> {
  return stored(name, oneOf(storage.getItem(`agw.${name}`), allowed) ?? first, first);
}

function keptSwitch(name: string, first: boolean): Signal<boolean> {
  return stored(name, (storage.getItem(`agw.${name}`) ?? String(first)) === "true", first);
}

function stored<T extends string | boolean>(name: string, now: T, first: T): Signal<T> {
  const chosen = signal<T>(now);
  chosen.subscribe((value) => {
    if (value === first) storage.removeItem(`agw.${name}`);
    else storage.setItem(`agw.${name}`, String(value));
  });
  return chosen;
}

function oneOf<T extends string>(value: string | null, allowed: readonly T[]): T | null {
  return allowed.find((one) => one === value) ?? null;
}
