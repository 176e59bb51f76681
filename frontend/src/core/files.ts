/**
 * The files of one session, as far as they were looked at: the folders that are open, kept as they are by a watch.
 *
 * Guarantees: a folder is asked for when it is opened, and again when something in it changed; of answers that
 * overtake each other the last question's counts; after `stop()` nothing is asked and nobody is called.
 */

import type { Api } from "./api.ts";
import type { Visibility } from "./clock.ts";
import { ApiError } from "./errors.ts";
import { EventStream, type StreamFrame } from "./stream.ts";
import { Subscribable } from "./subscribable.ts";
import type { FileEntry, TreeChange } from "./wire.ts";

export interface FolderState {
  entries: readonly FileEntry[];
  /** Of the entries that follow; null: there are no more. */
  cursor: string | null;
  /** The folder has more entries than the gateway looks at. */
  isPartial: boolean;
  isLoading: boolean;
  error: ApiError | null;
}

const NEW: FolderState = { entries: [], cursor: null, isPartial: false, isLoading: true, error: null };

export interface FileTreeConfig {
  api: Api;
  sessionId: string;
  visibility?: Visibility;
}

/** Paths are percent-encoded, as the gateway gives them; the root is "". */
export class FileTree extends Subscribable {
  readonly sessionId: string;
  readonly #api: Api;
  readonly #stream: EventStream;
  readonly #folders = new Map<string, FolderState>();
  readonly #open = new Set<string>([""]);
  /** How often each path was said to have changed; what shows a file reads it again then. */
  readonly #revisions = new Map<string, number>();
  readonly #asked = new Map<string, number>();
  #everything = 0;
  #isStopped = false;

  constructor({ api, sessionId, visibility }: FileTreeConfig) {
    super();
    this.sessionId = sessionId;
    this.#api = api;
    this.#stream = new EventStream({
      url: () => api.fileWatchUrl(sessionId),
      onFrame: (frame) => this.#heard(frame),
      repeatsIds: true,
      fetch: api.fetch,
      headers: () => api.headers(),
      ...(visibility && { visibility }),
    });
  }

  start(): void {
    void this.load("");
    this.#stream.start();
  }

  stop(): void {
    this.#isStopped = true;
    this.#stream.stop();
  }

  folder(path: string): FolderState | undefined {
    return this.#folders.get(path);
  }

  isOpen(path: string): boolean {
    return this.#open.has(path);
  }

  revision(path: string): number {
    return (this.#revisions.get(path) ?? 0) + this.#everything;
  }

  toggle(path: string, isOpen = !this.#open.has(path)): void {
    if (isOpen === this.#open.has(path)) return;
    if (isOpen) {
      this.#open.add(path);
      void this.load(path);
    } else this.#open.delete(path);
    this.changed();
  }

  /** Opens the folders above a path. */
  async reveal(path: string): Promise<void> {
    for (let at = parentOf(path); at !== ""; at = parentOf(at)) this.#open.add(at);
    const shown = foldersAbove(path).filter((one) => !this.#folders.has(one));
    await Promise.all(shown.map((one) => this.load(one)));
  }

  /** Asks for the entries of a folder anew. */
  async load(path: string): Promise<void> {
    const before = this.#folders.get(path);
    await this.#ask(path, () => this.#api.files(this.sessionId, path), before ?? NEW, []);
  }

  /** Asks for the entries that follow. */
  async more(path: string): Promise<void> {
    const folder = this.#folders.get(path);
    if (!folder || folder.cursor === null) return;
    const { cursor } = folder;
    await this.#ask(path, () => this.#api.files(this.sessionId, path, cursor), folder, folder.entries);
  }

  async #ask(
    path: string,
    question: () => ReturnType<Api["files"]>,
    before: FolderState,
    kept: readonly FileEntry[],
  ): Promise<void> {
    const number = (this.#asked.get(path) ?? 0) + 1;
    this.#asked.set(path, number);
    this.#set(path, { ...before, isLoading: true });
    let after: FolderState;
    try {
      const answer = await question();
      const entries = [...kept, ...answer.entries];
      after = { entries, cursor: answer.cursor, isPartial: answer.is_partial, isLoading: false, error: null };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      after = { ...before, entries: error.status === 404 ? [] : before.entries, isLoading: false, error };
    }
    if (this.#isStopped || this.#asked.get(path) !== number) return;
    this.#set(path, after);
  }

  #set(path: string, folder: FolderState): void {
    this.#folders.set(path, folder);
    this.changed();
  }

  #heard({ event, data }: StreamFrame): void {
    if (event === "changed") this.#named((JSON.parse(data) as TreeChange).paths);
    else if (event === "overflow" || event === "ready") this.#readAgain();
    else if (event === "gone") this.stop();
  }

  #named(paths: readonly string[]): void {
    for (const path of paths) this.#revisions.set(path, (this.#revisions.get(path) ?? 0) + 1);
    const folders = new Set(paths.map(parentOf));
    for (const path of folders) if (this.#folders.has(path)) void this.load(path);
    this.changed();
  }

  #readAgain(): void {
    this.#everything += 1;
    for (const path of this.#open) if (this.#folders.has(path)) void this.load(path);
    this.changed();
  }
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function foldersAbove(path: string): string[] {
  const above = [];
  for (let at = parentOf(path); ; at = parentOf(at)) {
    above.unshift(at);
    if (at === "") return above;
  }
}

/** A path for people: decoded as far as it is text. */
export function shownPath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** A plain path, as an agent writes it, as the gateway's addresses have it. */
export function encodedPath(plain: string): string {
  return plain.split("/").map((part) => encodeURIComponent(part).replace(/[!'()*]/g, percent)).join("/");
}

function percent(letter: string): string {
  return `%${letter.charCodeAt(0).toString(16).toUpperCase()}`;
}

/** Longer texts are no names of files. */
const NAME_MOST = 1_000;

/**
 * The file that a text names, of those that there are (encoded); null if none or several may be meant. A name
 * may be absolute, begin with `./`, or end with a line's number; the end of a path is enough if only one file has it.
 */
export function fileNamed(text: string, known: ReadonlySet<string>): string | null {
  const plain = text.trim().replace(/:\d+(?::\d+)?$/, "").replace(/^(?:\.\/)+/, "");
  if (plain === "" || plain.length > NAME_MOST || plain.includes("\n")) return null;
  const path = encodedPath(plain.replace(/^\/+/, ""));
  if (!plain.startsWith("/") && known.has(path)) return path;
  const parts = path.split("/");
  if (plain.startsWith("/")) {
    for (let from = 0; from < parts.length; from += 1) {
      const end = parts.slice(from).join("/");
      if (known.has(end)) return end;
    }
    return null;
  }
  const fitting = [...known].filter((one) => one.endsWith(`/${path}`));
  return fitting.length === 1 ? (fitting[0] ?? null) : null;
}

/** The files of a listing and of its inner folders. */
export function filesIn(entries: readonly FileEntry[]): string[] {
  return entries.flatMap((entry) => [
    ...(entry.kind === "file" ? [entry.path] : []),
    ...(entry.inner ? filesIn(entry.inner.entries) : []),
  ]);
}
