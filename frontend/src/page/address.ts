import type { Me } from "../core/index.ts";

export const OPERATIONS = "#/operations";

/** Whether somebody may only watch the gateway: they have no conversations of their own. */
export function isOnlyOperator(me: Me | null): boolean {
  return me !== null && me.scopes.includes("operate") && !me.scopes.includes("read");
}
