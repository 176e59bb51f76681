/** What a first visit downloads, of the page as it was built. */

import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { FIRST_VISIT_MOST, sizes, WITH_ANSWER_MOST } from "./size.mjs";

const isBuilt = existsSync(new URL("../dist/index.html", import.meta.url));

it.skipIf(!isBuilt)("downloads little at the first visit, and what draws answers with it", () => {
  const { english, hebrew, conversation, first } = sizes();
  expect(english).toBeLessThan(FIRST_VISIT_MOST);
  expect(hebrew).toBeLessThan(FIRST_VISIT_MOST);
  expect(conversation).toBeLessThan(WITH_ANSWER_MOST);
  expect([...first].filter((name) => /^(?:hebrew|Markdown|Question|Share|Operations)/.test(name))).toEqual([]);
});
