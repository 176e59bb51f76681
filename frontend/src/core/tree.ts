/** Sessions as a tree: forks under the session that they were made of. */

import type { SessionSummary } from "./wire.ts";

export interface Branch {
  row: SessionSummary;
  /** The newest first. */
  forks: Branch[];
  /** When one of them all was used last. */
  lastActiveAt: string;
}

/** The roots, the one that was used last (in any of its branches) first. A parent that is not here leaves a root. */
export function treeOf(rows: readonly SessionSummary[]): Branch[] {
  const branches = new Map<string, Branch>(
    rows.map((row) => [row.session_id, { row, forks: [], lastActiveAt: row.last_active_at }]),
  );
  const roots: Branch[] = [];
  for (const branch of branches.values()) {
    const parent = parentOf(branch, branches);
    (parent?.forks ?? roots).push(branch);
  }
  for (const root of roots) settle(root);
  return roots.sort(newestFirst);
}

/** None if the way up leads back here. */
function parentOf(branch: Branch, branches: ReadonlyMap<string, Branch>): Branch | undefined {
  const parent = above(branch, branches);
  const seen = new Set<Branch>([branch]);
  for (let at = parent; at; at = above(at, branches)) {
    if (seen.has(at)) return undefined;
    seen.add(at);
  }
  return parent;
}

function above(branch: Branch, branches: ReadonlyMap<string, Branch>): Branch | undefined {
  return branch.row.parent === undefined ? undefined : branches.get(branch.row.parent);
}

/** Without recursion: a chain of forks may be as long as the list. */
function settle(root: Branch): void {
  const order: Branch[] = [root];
  for (let at = 0; at < order.length; at += 1) order.push(...(order[at]?.forks ?? []));
  for (const branch of order.reverse()) {
    branch.forks.sort(newestFirst);
    for (const fork of branch.forks) if (fork.lastActiveAt > branch.lastActiveAt) branch.lastActiveAt = fork.lastActiveAt;
  }
}

function newestFirst(a: Branch, b: Branch): number {
  return b.lastActiveAt < a.lastActiveAt ? -1 : b.lastActiveAt > a.lastActiveAt ? 1 : 0;
}

/** The rows of a tree in the order in which they are shown, each with its depth. */
export function flat(root: Branch): [SessionSummary, number][] {
  const rows: [SessionSummary, number][] = [];
  const waiting: [Branch, number][] = [[root, 0]];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const [branch, depth] = next;
    rows.push([branch.row, depth]);
    for (const fork of [...branch.forks].reverse()) waiting.push([fork, depth + 1]);
  }
  return rows;
}
