/**
 * The link by which somebody else's conversation is followed: what it allows, and who its holder is to the others.
 *
 * Guarantees: a name that was typed once is kept in this browser, and goes with whatever is done by a link; a random
 * value beside it, which no one is shown, keeps others from being the same guest.
 */

import type { Api, GuestNames } from "./api.ts";
import { ApiError } from "./errors.ts";
import { newId } from "./ids.ts";
import type { KeyValue } from "./storage.ts";
import { Subscribable } from "./subscribable.ts";
import type { Verbs } from "./verbs.ts";
import type { Contributor, SharedLink } from "./wire.ts";

/** A name has at most so many characters. */
export const NAME_MOST = 40;
const GUEST_KEY = "agw.guest";
const NAME_KEY = "agw.guest-name";

export class Link extends Subscribable {
  readonly token: string;
  /** null while the gateway has not said it. */
  kind: SharedLink["kind"] | null = null;
  /** null: the others do not know a name. */
  you: Contributor | null = null;
  isOwner = false;
  /** Why the last name was not taken. */
  error: ApiError | null = null;
  readonly #api: Api;
  readonly #storage: KeyValue;
  #name: string;
  #loading: Promise<void> | null = null;

  constructor({ api, token, storage }: { api: Api; token: string; storage: KeyValue }) {
    super();
    this.#api = api;
    this.token = token;
    this.#storage = storage;
    this.#name = storage.getItem(NAME_KEY) ?? "";
    if (storage.getItem(GUEST_KEY) === null) storage.setItem(GUEST_KEY, newId());
  }

  get who(): GuestNames {
    return { guest: this.#storage.getItem(GUEST_KEY) ?? "", name: this.#name };
  }

  get mayWrite(): boolean {
    return this.kind === "drive" || this.kind === "approve";
  }

  get mayApprove(): boolean {
    return this.kind === "approve";
  }

  /** True if something may be done once there is a name. */
  get needsName(): boolean {
    return this.mayWrite && this.you === null && !this.isOwner;
  }

  /** Asks the gateway once, until it has answered. A name of before that is taken here is asked for again. */
  load(): Promise<void> {
    if (this.kind !== null) return Promise.resolve();
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** Takes a name; false if the gateway does not, `error` says why. */
  async takeName(name: string): Promise<boolean> {
    const before = this.#name;
    this.#name = name.trim();
    this.error = null;
    try {
      this.#take(await this.#api.sharedLink(this.token, this.who));
    } catch (error) {
      this.#name = before;
      this.error = error instanceof ApiError ? error : new ApiError(0, "failed", String(error));
      this.changed();
      return false;
    }
    this.#storage.setItem(NAME_KEY, this.#name);
    return true;
  }

  get verbs(): Verbs {
    const api = this.#api;
    return {
      streamUrl: (after, last) => api.sharedStreamUrl(this.token, after, this.who, last),
      history: (before, last) => api.sharedHistory(this.token, before, last, this.who),
      chat: (text, key) => api.shared(this.token, this.who, "chat", { message: text }, key),
      interrupt: () => api.shared(this.token, this.who, "interrupt"),
      answerPermission: (id, option) =>
        api.shared(this.token, this.who, "permission", { permission_id: id, option_id: option }),
      answerQuestion: (id, action, content) =>
        api.shared(this.token, this.who, `questions/${encodeURIComponent(id)}`, { action, content }),
    };
  }

  async #load(): Promise<void> {
    try {
      this.#take(await this.#api.sharedLink(this.token, this.who));
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 422 || this.#name === "") return;
      this.#name = "";
      await this.#load();
    }
  }

  #take({ kind, you, is_owner }: SharedLink): void {
    this.kind = kind;
    this.you = you ?? null;
    this.isOwner = is_owner;
    this.changed();
  }
}
