import type { Me } from "../core/index.ts";

export const OPERATIONS = "#/operations";

/** This page as a path: where the provider sends the person back to. */
export function here(): string {
  return location.pathname + location.search + location.hash;
}

/** True if the credential may only operate the gateway: it cannot hold conversations. */
export function isOnlyOperator(me: Me | null): boolean {
  return me !== null && me.scopes.includes("operate") && !me.scopes.includes("read");
}
