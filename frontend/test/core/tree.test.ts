import { describe, expect, it } from "vitest";
import { flat, treeOf } from "../../src/core/tree.ts";
import type { SessionSummary } from "../../src/core/wire.ts";

const row = (session_id: string, at: number, parent?: string): SessionSummary => ({
  session_id,
  title: session_id,
  state: "parked",
  agent: "a",
  created_at: "",
  last_active_at: `2026-01-01T00:00:0${at}.000Z`,
  messages: 1,
  ...(parent !== undefined && { parent }),
});

const shown = (rows: SessionSummary[]): string[] =>
  treeOf(rows).flatMap(flat).map(([one, depth]) => `${"-".repeat(depth)}${one.session_id}`);

describe("the tree of sessions", () => {
  it("has forks below their parents, and the tree that was used last first", () => {
    const rows = [row("b", 5), row("a", 1), row("a1", 3, "a"), row("a2", 6, "a"), row("a11", 2, "a1")];
    expect(shown(rows)).toEqual(["a", "-a2", "-a1", "--a11", "b"]);
  });

  it("makes a root of a fork whose parent is not there", () => {
    expect(shown([row("x", 1, "gone")])).toEqual(["x"]);
  });

  it("loses no row in a circle or a long chain", () => {
    expect(shown([row("a", 1, "b"), row("b", 2, "a"), row("c", 3, "c")])).toHaveLength(3);
    const chain = Array.from({ length: 1_000 }, (_, n) => row(`c${n}`, 1, n > 0 ? `c${n - 1}` : undefined));
    expect(shown(chain)).toHaveLength(1_000);
  });
});
