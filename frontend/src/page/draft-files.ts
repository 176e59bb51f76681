/**
 * The files of a draft: uploaded one after the other, in parts, so that a cut costs one part.
 *
 * Guarantees: what was uploaded survives a reload; what is removed or cancelled is not sent; a part that did not
 * arrive is tried again by itself, and then waits for the person with the reason in words.
 */

import { signal } from "@preact/signals";
import { type Api, ApiError, type Attachment, newId, type SessionStore, wordsOf } from "../core/index.ts";
import { language, t } from "./preferences.ts";

export const PART_BYTES = 2 * 1024 * 1024;
const TRIES = 3;
const RETRY_MS = 500;
/** The gateway has another file there, or another part of this one. */
const MOVED = new Set(["file_changed", "upload_elsewhere"]);
const IMAGE = /^image\/(png|jpeg|gif|webp)$/;

/** A file on its way into the draft. */
export interface DraftFile {
  id: string;
  name: string;
  size: number;
  /** What it is once it is uploaded. */
  attachment: Attachment | null;
  /** Bytes that have arrived. */
  sent: number;
  /** Why it does not go on, in words. */
  problem: string | null;
  /** The address of its picture. */
  preview: string | null;
}

interface Running {
  file: File;
  path: string | null;
  abort: AbortController;
}

export interface DraftFilesConfig {
  api: Api;
  store: SessionStore;
  sessionId: string;
  /** Makes the session if there is none. */
  ensure(): Promise<void>;
  say(text: string): void;
}

export class DraftFiles {
  /** Moves when a file changed. */
  readonly version = signal(0);
  files: readonly DraftFile[] = [];
  readonly #config: DraftFilesConfig;
  readonly #running = new Map<string, Running>();
  #line: Promise<void> = Promise.resolve();

  constructor(config: DraftFilesConfig) {
    this.#config = config;
    this.files = config.store.draftFiles(config.sessionId).map((attachment) => ({
      id: newId(),
      name: attachment.name,
      size: attachment.size,
      attachment,
      sent: attachment.size,
      problem: null,
      preview: this.previewOf(attachment),
    }));
  }

  /** True while a file is neither whole nor given up. */
  get isBusy(): boolean {
    return this.files.some((one) => one.attachment === null);
  }

  get attachments(): Attachment[] {
    return this.files.flatMap((one) => (one.attachment ? [one.attachment] : []));
  }

  /** The address of an uploaded picture; null if it is none. */
  previewOf(attachment: Attachment): string | null {
    if (!IMAGE.test(attachment.media_type)) return null;
    return this.#config.api.uploadUrl(this.#config.sessionId, attachment.path);
  }

  add(files: Iterable<File>): void {
    for (const file of files) {
      const id = newId();
      const preview = IMAGE.test(file.type) ? URL.createObjectURL(file) : null;
      const name = file.name || "file";
      this.files = [...this.files, { id, name, size: file.size, attachment: null, sent: 0, problem: null, preview }];
      this.#running.set(id, { file, path: null, abort: new AbortController() });
      this.#enqueue(id);
    }
    this.#changed();
  }

  retry(id: string): void {
    const running = this.#running.get(id);
    if (!running) return;
    running.abort = new AbortController();
    this.#update(id, { problem: null });
    this.#enqueue(id);
  }

  remove(id: string): void {
    this.#running.get(id)?.abort.abort();
    this.#release(id);
    this.files = this.files.filter((one) => one.id !== id);
    this.#changed();
  }

  /** They are sent: the next draft begins without any. */
  take(): Attachment[] {
    const taken = this.attachments;
    this.clear();
    return taken;
  }

  clear(): void {
    for (const one of this.files) {
      this.#running.get(one.id)?.abort.abort();
      this.#release(one.id);
    }
    this.files = [];
    this.#changed();
  }

  // -- inside -------------------------------------------------------------------------------------------------

  #enqueue(id: string): void {
    this.#line = this.#line.then(() => this.#upload(id));
  }

  async #upload(id: string): Promise<void> {
    const running = this.#running.get(id);
    if (!running || running.abort.signal.aborted) return;
    try {
      await this.#config.ensure();
      await this.#sendAgain(id, running);
    } catch (error) {
      if (running.abort.signal.aborted) return;
      const why = error instanceof ApiError ? wordsOf(error, language.value) : String(error);
      this.#update(id, { problem: why });
      this.#config.say(t("attachmentFailed", { name: running.file.name, why }));
    }
  }

  /** Sends it; begins anew if its place was taken meanwhile, and goes on if something else did. */
  async #sendAgain(id: string, running: Running): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#send(id, running);
      } catch (error) {
        const isMoved = error instanceof ApiError && MOVED.has(error.code);
        if (!isMoved || running.abort.signal.aborted || tries >= TRIES) throw error;
        if (error.code === "file_changed") running.path = null;
      }
    }
  }

  /** Sends what has not arrived yet, part by part. */
  async #send(id: string, running: Running): Promise<void> {
    const { api, sessionId } = this.#config;
    const { file, abort } = running;
    const { size } = file;
    let start = 0;
    if (running.path !== null) {
      const found = await api.uploaded(sessionId, running.path, size);
      if (found.is_whole) running.path = null;
      else start = found.received;
    }
    running.path ??= (await api.freePath(sessionId, file.name || "file", size)).path;
    const { path } = running;
    for (;;) {
      const part = file.slice(start, start + PART_BYTES);
      const done = await this.#trying(abort.signal, () =>
        api.uploadPart(sessionId, path, part, { start, size, signal: abort.signal }),
      );
      if (abort.signal.aborted) return;
      start = done.received;
      if (done.is_whole) {
        const { name, media_type } = done;
        this.#done(id, { path: done.path, name, size, media_type });
        return;
      }
      this.#update(id, { sent: start });
    }
  }

  /** Does it again if it did not arrive, or came too soon. */
  async #trying<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await act();
      } catch (error) {
        const isPassing = error instanceof ApiError && (error.status === 0 || error.code === "rate_limited");
        if (!isPassing || signal.aborted || tries >= TRIES) throw error;
        const wait = error.retryAfterMs ?? RETRY_MS * tries;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  #done(id: string, attachment: Attachment): void {
    this.#release(id);
    const { name, size } = attachment;
    this.#update(id, { attachment, name, size, sent: size, preview: this.previewOf(attachment) });
    this.#config.say(t("attachmentDone", { name }));
  }

  #release(id: string): void {
    this.#running.delete(id);
    const preview = this.files.find((one) => one.id === id)?.preview;
    if (preview?.startsWith("blob:")) URL.revokeObjectURL(preview);
  }

  #update(id: string, fields: Partial<DraftFile>): void {
    this.files = this.files.map((one) => (one.id === id ? { ...one, ...fields } : one));
    this.#changed();
  }

  #changed(): void {
    this.#config.store.setDraftFiles(this.#config.sessionId, this.attachments);
    this.version.value += 1;
  }
}
