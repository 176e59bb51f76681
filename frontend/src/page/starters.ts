/** What a new conversation offers to begin with. Pure. */

import type { Key } from "../core/index.ts";

/**
 * The keys of the texts that the agent can answer. An open question needs a model; while it is not known whether
 * there is one (null), it is not offered.
 */
export function starters(isOffline: boolean | null): Key[] {
  return isOffline === false ? ["try1", "try2"] : ["try2"];
}
