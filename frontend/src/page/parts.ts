/**
 * The parts of the page: those that are built in, and those that other applications serve as modules.
 *
 * Guarantees: a part is shown only if the gateway runs its applications, and all that are built in if the gateway
 * does not say; a module comes from the gateway's own origin; one that cannot be loaded in `LOAD_MS` is left out,
 * and its name is returned.
 */

import { type Clock, type Fold, systemClock } from "../core/index.ts";
import type { PagePart } from "./part.ts";

/** A page without a part is better than a page that waits. */
export const LOAD_MS = 5_000;

/** An application that the gateway runs; `module` is the address of its part, if it serves one. */
interface Enabled {
  name: string;
  module: string | null;
}

/** The gateway's list: names, or objects with `name` and `page`. Null if it gives no list. */
export function enabledIn(applications: unknown): Enabled[] | null {
  if (!Array.isArray(applications)) return null;
  return applications.flatMap((one: unknown): Enabled[] => {
    if (typeof one === "string") return [{ name: one, module: null }];
    if (typeof one !== "object" || one === null) return [];
    const { name, page } = one as { name?: unknown; page?: unknown };
    return typeof name === "string" ? [{ name, module: typeof page === "string" ? page : null }] : [];
  });
}

interface PartsConfig {
  builtIn: readonly PagePart[];
  /** Where the gateway is; addresses of modules are relative to it. */
  baseUrl: string;
  load?: (address: string) => Promise<unknown>;
  clock?: Clock;
}

export class Parts {
  readonly #config: PartsConfig;
  /** Of the modules that were asked for, by their application; null for one that could not be loaded. */
  readonly #loaded = new Map<string, PagePart | null>();

  constructor(config: PartsConfig) {
    this.#config = config;
  }

  /** What all of them fold, shown or not: a part may be enabled later. */
  get folds(): readonly Fold[] {
    return this.#all.flatMap((part) => part.fold ?? []);
  }

  /** True if a module folds: the gateway may have no fold of its own for it, so that it needs the log from the start. */
  get needsWholeLog(): boolean {
    return [...this.#loaded.values()].some((part) => part?.fold !== undefined);
  }

  shown(applications: unknown): readonly PagePart[] {
    const enabled = enabledIn(applications);
    if (enabled === null) return this.#config.builtIn;
    const names = new Set(enabled.map((one) => one.name));
    return this.#all.filter((part) => part.applications.every((name) => names.has(name)));
  }

  /** True if the list names no module that was not asked for yet. */
  isComplete(applications: unknown): boolean {
    return this.#missing(applications).length === 0;
  }

  /** Asks for the modules that are missing; the names of those that failed. */
  async load(applications: unknown): Promise<string[]> {
    const missing = this.#missing(applications);
    const parts = await Promise.all(missing.map((one) => this.#partOf(one)));
    missing.forEach(({ name }, place) => this.#loaded.set(name, parts[place] ?? null));
    return missing.filter((_, place) => !parts[place]).map((one) => one.name);
  }

  get #all(): readonly PagePart[] {
    return [...this.#config.builtIn, ...[...this.#loaded.values()].filter((part) => part !== null)];
  }

  #missing(applications: unknown): Enabled[] {
    const enabled = enabledIn(applications) ?? [];
    return enabled.filter(({ name, module }) => module !== null && !this.#loaded.has(name));
  }

  async #partOf({ name, module }: Enabled): Promise<PagePart | null> {
    const { baseUrl, load = importModule, clock = systemClock } = this.#config;
    try {
      const address = new URL(module ?? "", baseUrl);
      if (address.origin !== new URL(baseUrl).origin) throw new Error(`${address.href} is on another site`);
      const loaded = await inTime(load(address.href), clock);
      const part = (loaded as { default?: unknown }).default;
      if (typeof part !== "object" || part === null) throw new Error("its default export is not a page part");
      return { ...part, applications: [name] };
    } catch (error) {
      console.warn(`Agent Gateway: the page part of ${name} was not loaded: ${String(error)}`);
      return null;
    }
  }
}

function importModule(address: string): Promise<unknown> {
  return import(/* @vite-ignore */ address);
}

function inTime<T>(promise: Promise<T>, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(LOAD_MS, () => reject(new Error(`no answer in ${LOAD_MS / 1000} seconds`)));
    promise.then(resolve, reject).finally(cancel);
  });
}
