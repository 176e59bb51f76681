/** The fold of reduce.ts is the fold of gateway/events/fold.py: both read tests/golden/. */

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cartFold } from "../../src/apps/shop/fold.ts";
import type { GatewayEvent, Outside, Snapshot, State } from "../../src/core/events.ts";
import { ChatState, NOTHING_OUTSIDE } from "../../src/core/reduce.ts";

interface Golden {
  name: string;
  events: GatewayEvent[];
  state: State;
  /** What the State says beside the log, if that is more than the defaults. */
  outside?: Partial<Outside>;
  snapshot: Snapshot;
}

/** The golden files hold what the applications fold, too. */
const FOLDS = [cartFold];
const folder = new URL("../../../tests/golden/", import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
const goldens = names.map((name) => JSON.parse(readFileSync(new URL(name, folder), "utf8")) as Golden);

/** Fields that were added after most of the files were written, as they are where nothing was said of them. */
const LATER = JSON.parse(readFileSync(new URL("later/fields.json", folder), "utf8")) as Pick<
  Golden,
  "state" | "snapshot"
>;
for (const golden of goldens) {
  golden.state = { ...LATER.state, ...golden.state };
  golden.snapshot = { ...LATER.snapshot, ...golden.snapshot };
}

const fold = (events: GatewayEvent[], chat: ChatState): ChatState => {
  for (const event of events) chat.apply(event);
  return chat;
};

it("there are golden files", () => {
  expect(names.length).toBeGreaterThan(0);
});

describe.each(goldens)("$name", (golden) => {
  const fresh = (): ChatState => new ChatState(golden.snapshot.session_id, FOLDS);

  it("gives the same snapshot", () => {
    expect(fold(golden.events, fresh()).snapshot()).toEqual(golden.snapshot);
  });

  it("gives the same State", () => {
    const { missing_api_key } = golden.state;
    const outside = { ...NOTHING_OUTSIDE, ...golden.outside, missing_api_key };
    expect(fold(golden.events, fresh()).stateOf(outside)).toEqual(golden.state);
  });

  it("goes on from a snapshot taken after any event", () => {
    for (let at = 0; at <= golden.events.length; at += 1) {
      const snapshot = JSON.parse(
        JSON.stringify(fold(golden.events.slice(0, at), fresh()).snapshot()),
      ) as Snapshot;
      const resumed = fold(golden.events.slice(at), ChatState.restore(snapshot, FOLDS));
      expect(resumed.snapshot(), `resumed after event ${at}`).toEqual(golden.snapshot);
    }
  });
});
