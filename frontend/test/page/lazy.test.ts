// @vitest-environment jsdom
import { h, render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

const Heavy = ({ text }: { text: string }) => h("b", {}, text);
const Light = ({ text }: { text: string }) => h("i", {}, text);

beforeEach(() => {
  vi.stubGlobal("requestAnimationFrame", (call: () => void) => setTimeout(call));
  const query = { matches: false, addEventListener: () => undefined };
  vi.stubGlobal("matchMedia", () => query);
});
afterEach(() => vi.restoreAllMocks());

async function drawn(isAskedBefore: boolean): Promise<string[]> {
  const { lazily } = await import("../../src/page/lazy.tsx");
  const { PageProvider } = await import("../../src/page/page.ts");
  const Fetched = lazily(() => Promise.resolve(Heavy), Light);
  if (isAskedBefore) await Fetched.fetched();
  const root = document.createElement("div");
  render(h(PageProvider, { value: { tell: () => undefined } as never, children: h(Fetched, { text: "a" }) }), root);
  const first = root.innerHTML;
  await vi.waitFor(() => expect(root.innerHTML).toBe("<b>a</b>"));
  return [first, root.innerHTML];
}

it("draws what was fetched before at once, and nothing in its stead", async () => {
  expect(await drawn(true)).toEqual(["<b>a</b>", "<b>a</b>"]);
});

it("draws what stands in for it until it is fetched", async () => {
  expect(await drawn(false)).toEqual(["<i>a</i>", "<b>a</b>"]);
});
