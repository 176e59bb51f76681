/**
 * Identifies a visitor if the page is on another site than the gateway and browsers drop its cookie: a token of
 * the first answer, kept and shown again.
 *
 * Guarantees: of several requests at the start one goes ahead, so that a visitor is not made several times; a token
 * that is not valid any more is dropped and the request asked once more; a caller's own credential is left alone.
 */

import type { KeyValue } from "./storage.ts";

export const VISITOR_HEADER = "X-Visitor-Token";

/** Where the token of the gateway at `baseUrl` is kept. */
export function visitorKey(baseUrl: string): string {
  return `agw.visitor:${new URL(baseUrl).origin}`;
}

/** True if `baseUrl` is on another origin than `pageOrigin`. */
export function isElsewhere(baseUrl: string, pageOrigin: string | undefined): boolean {
  return URL.canParse(baseUrl) && pageOrigin !== undefined && new URL(baseUrl).origin !== pageOrigin;
}

/** `fetch` as one visitor. */
export function visiting(fetch: typeof globalThis.fetch, storage: KeyValue, key: string): typeof globalThis.fetch {
  let ahead: Promise<unknown> | null = null;
  let isAnswered = false;

  const send: typeof fetch = async (input, init) => {
    const token = storage.getItem(key);
    const headers = new Headers(init?.headers);
    if (token !== null) headers.set("Authorization", `Bearer ${token}`);
    // On a sibling of the gateway's site the cookie works, and no token is given.
    const response = await fetch(input, { ...init, headers, credentials: "include" });
    const given = response.headers.get(VISITOR_HEADER);
    if (given) storage.setItem(key, given);
    isAnswered = true;
    if (response.status !== 401 || token === null) return response;
    if (storage.getItem(key) === token) {
      storage.removeItem(key);
      isAnswered = false;
    }
    void response.body?.cancel().catch(() => undefined);
    return inOrder(input, init);
  };

  const inOrder: typeof fetch = async (input, init) => {
    while (ahead !== null) await ahead.catch(() => undefined);
    if (isAnswered || storage.getItem(key) !== null) return send(input, init);
    const first = send(input, init);
    ahead = first.finally(() => (ahead = null));
    ahead.catch(() => undefined);
    return first;
  };

  return (input, init) =>
    new Headers(init?.headers).has("Authorization") ? fetch(input, init) : inOrder(input, init);
}
