import { expect, it } from "vitest";
import { starters } from "../../src/page/starters.ts";

it("offers an open question only where a model can answer it", () => {
  expect(starters(false)).toEqual(["try1", "try2"]);
  expect(starters(true)).toEqual(["try2"]);
  expect(starters(null)).toEqual(["try2"]);
});
