/** Whether the panel of files is open, and on what; the names of files in the conversation lead there. */

import { type Signal, signal } from "@preact/signals";
import { type Api, ApiError, fileNamed, filesIn } from "../core/index.ts";

/** Entries that are known for the names in a conversation. */
const DEPTH = 5;
/** What may name a file, where an agent's words and calls are drawn. */
const NAMES = ".md :not(pre) > code, .tool-place, .diff-path";
const NAMES_MOST = 2_000;

export type FilesTab = "tree" | "changes";

export class Filing {
  readonly isOpen = signal(false);
  readonly tab: Signal<FilesTab> = signal<FilesTab>("tree");
  /** The file that is shown, percent-encoded. */
  readonly shown = signal<string | null>(null);
  /** Moves when the files that are known changed. */
  readonly version = signal(0);
  #known: ReadonlySet<string> = new Set();
  #of = "";

  open(path: string | null = null): void {
    this.tab.value = "tree";
    this.shown.value = path;
    this.isOpen.value = true;
  }

  openChanges(): void {
    this.tab.value = "changes";
    this.shown.value = null;
    this.isOpen.value = true;
  }

  /** Closes the file that is shown, else the panel. */
  back(): void {
    if (this.shown.value !== null) this.shown.value = null;
    else this.isOpen.value = false;
  }

  /** Asks which files there are, so that their names in this session lead to them. */
  async learn(api: Api, sessionId: string): Promise<void> {
    if (this.#of !== sessionId) {
      this.#known = new Set();
      this.shown.value = null;
    }
    this.#of = sessionId;
    try {
      const { entries } = await api.files(sessionId, "", undefined, DEPTH);
      if (this.#of === sessionId) this.#known = new Set(filesIn(entries));
      this.version.value += 1;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // a session that the gateway does not know yet has no files
    }
  }

  /** Makes links of the names of files below an element; those that name none any more are names again. */
  link(element: Element, label: (name: string) => string): void {
    [...element.querySelectorAll<HTMLElement>(NAMES)].slice(-NAMES_MOST).forEach((one) => {
      const text = one.textContent ?? "";
      const path = this.#known.size > 0 ? fileNamed(text, this.#known) : null;
      if ((one.dataset.file ?? null) === path) return;
      if (path === null) {
        delete one.dataset.file;
        ["role", "tabindex", "aria-label"].forEach((name) => one.removeAttribute(name));
        return;
      }
      one.dataset.file = path;
      one.setAttribute("role", "link");
      one.setAttribute("tabindex", "0");
      one.setAttribute("aria-label", label(text.trim()));
    });
  }

  /** Opens the file that was clicked on, or chosen by Enter; true if there was one. */
  follow(event: MouseEvent | KeyboardEvent): boolean {
    if ("key" in event && event.key !== "Enter") return false;
    const from = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-file]") : null;
    if (!from?.dataset.file || !from.matches(NAMES)) return false;
    event.preventDefault();
    this.open(from.dataset.file);
    return true;
  }
}
