/**
 * The messages that are on their way, kept over a reload.
 *
 * Guarantees: each comes back with its idempotency key, so that what did arrive is not said twice; what cannot be read
 * is left out.
 */

import { ApiError } from "./errors.ts";
import type { Attachment } from "./events.ts";
import type { KeyValue } from "./storage.ts";

/** What is kept of a message; `error` is why it was refused, null: it may have been on its way. */
export interface KeptMessage {
  key: string;
  text: string;
  attachments: readonly Attachment[];
  error: ApiError | null;
}

export interface Outbox {
  load(): KeptMessage[];
  save(messages: readonly KeptMessage[]): void;
}

export function storedOutbox(storage: KeyValue, name: string): Outbox {
  return {
    load: () => read(storage.getItem(name)),
    save(messages) {
      if (messages.length === 0) return storage.removeItem(name);
      storage.setItem(name, JSON.stringify(messages.map(plain)));
    },
  };
}

function plain({ key, text, attachments, error }: KeptMessage): object {
  return { key, text, attachments, ...(error && { status: error.status, code: error.code, message: error.message }) };
}

function read(text: string | null): KeptMessage[] {
  try {
    const kept: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(kept) ? kept.flatMap((one) => messageOf(one)) : [];
  } catch {
    return [];
  }
}

function messageOf(value: unknown): KeptMessage[] {
  const { key, text, attachments, status, code, message } = (value ?? {}) as Record<string, unknown>;
  if (typeof key !== "string" || typeof text !== "string") return [];
  const files = Array.isArray(attachments) ? attachments.filter(isAttachment) : [];
  const error = typeof code === "string" ? new ApiError(Number(status) || 0, code, String(message)) : null;
  return [{ key, text, attachments: files, error }];
}

export function isAttachment(value: unknown): value is Attachment {
  const file = value as Partial<Attachment> | null;
  return typeof file?.path === "string" && typeof file.name === "string" && typeof file.size === "number";
}
