import type { Me } from "../core/index.ts";

export const OPERATIONS = "#/operations";

/** True if the credential may only operate the gateway: it cannot hold conversations. */
export function isOnlyOperator(me: Me | null): boolean {
  return me !== null && me.scopes.includes("operate") && !me.scopes.includes("read");
}
