/**
 * Who this browser is to the gateway: let in or not, as whom, and how to get in.
 *
 * Guarantees: nothing is known before the gateway has said it (`asking`), and it is asked until it does; a key is
 * handed on and not kept; once the gateway has refused (`lost`), only a sign-in or the gateway's word leads back in.
 */

import type { Api } from "./api.ts";
import { type Clock, systemClock } from "./clock.ts";
import { ApiError } from "./errors.ts";
import { MESSAGE_BYTES } from "./length.ts";
import { Subscribable } from "./subscribable.ts";
import type { AuthState, Branding, Me } from "./wire.ts";

export type Phase = "asking" | "inside" | "outside";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 10_000;

export class Identity extends Subscribable {
  phase: Phase = "asking";
  me: Me | null = null;
  /** key, oidc: how one signs in here. */
  ways: readonly string[] = [];
  /** The applications that the gateway runs, as it lists them; undefined if it does not say. */
  applications: unknown = undefined;
  /** The operator's look of the page. */
  look: Branding | undefined = undefined;
  /** How long a message may be, in bytes. */
  messageBytes = MESSAGE_BYTES;
  /** Why the gateway could not be asked. */
  error: ApiError | null = null;
  /** True if someone was signed in before. */
  wasInside = false;

  readonly #api: Api;
  readonly #clock: Clock;
  readonly #confirm: (() => void) | undefined;
  #failures = 0;

  /** `confirm` sends the browser to the provider, which confirms a sign-in without a question; it comes back. */
  constructor(config: { api: Api; clock?: Clock; confirm?: () => void }) {
    super();
    this.#api = config.api;
    this.#clock = config.clock ?? systemClock;
    this.#confirm = config.confirm;
  }

  /** TENANT/SUBJECT of who is inside. */
  get owner(): string | null {
    return this.me === null ? null : ownerOf(this.me);
  }

  /** True if the gateway asks no one to sign in: a single person uses it on their own machine. */
  get isLocal(): boolean {
    return this.me === null || this.me.kind === "local";
  }

  /** False if the agent takes no command from who is inside: a message that begins with `/` is a text to it. */
  get mayCommand(): boolean {
    return this.me?.may_command !== false;
  }

  /** Asks the gateway, again and again until it answers. */
  async start(): Promise<void> {
    if (await this.check()) return;
    const wait = this.error?.retryAfterMs ?? Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#clock.after(wait, () => void this.start());
  }

  /** Asks the gateway once; true if it answered. */
  async check(): Promise<boolean> {
    try {
      this.#take(await this.#api.authState());
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.error = error;
      if (error.status === 401) this.phase = "outside";
      this.changed();
      return error.status === 401;
    }
  }

  /** The gateway does not know this browser any more. */
  lost(): void {
    if (this.phase !== "inside") return;
    this.phase = "outside";
    this.me = null;
    this.#api.csrfToken = null;
    this.changed();
    if (this.ways.length === 0 || this.ways.includes("oidc")) void this.check();
  }

  // -- verbs: an ApiError says why not ------------------------------------------------------------------------

  /** `keepShares`: links to what the guest made lead there still. */
  async signIn(key: string, keepShares = false): Promise<void> {
    this.#enter(await this.#api.signIn(key, keepShares));
  }

  async claim(token: string, keepShares = false): Promise<void> {
    this.#enter(await this.#api.claim(token, keepShares));
  }

  /** Ends this browser's sign-in, or what every browser holds. */
  async signOut(everywhere: boolean): Promise<void> {
    await this.#api.signOut(everywhere);
    this.wasInside = false;
    await this.check();
  }

  // -- inside -------------------------------------------------------------------------------------------------

  #take(state: AuthState): void {
    this.ways = state.sign_in;
    this.applications = (state as { applications?: unknown }).applications;
    this.look = state.page;
    this.messageBytes = state.message_bytes ?? MESSAGE_BYTES;
    this.error = null;
    this.#failures = 0;
    if (state.me !== null) return this.#enter(state.me);
    if (state.signs_in_again === true) this.#confirm?.();
    this.phase = "outside";
    this.me = null;
    this.#api.csrfToken = null;
    this.changed();
  }

  #enter(me: Me): void {
    this.me = me;
    this.phase = "inside";
    this.wasInside = true;
    this.error = null;
    this.#api.csrfToken = me.csrf_token;
    this.changed();
  }
}

export function ownerOf(me: Me): string {
  return `${me.tenant}/${me.subject}`;
}

/** True if TENANT/SUBJECT is an anonymous visitor, whose sessions move to the account that signs in. */
export function isVisitor(owner: string): boolean {
  return owner.slice(owner.indexOf("/") + 1).startsWith("~");
}

/** The secret behind `name` in an address's fragment: `#shared=TOKEN`, `#handover=TOKEN`. */
export function tokenIn(hash: string, name: "shared" | "handover"): string | null {
  return new URLSearchParams(hash.replace(/^#/, "")).get(name) || null;
}
