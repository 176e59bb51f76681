// @vitest-environment jsdom
import { h, render } from "preact";
import { afterEach, expect, it, vi } from "vitest";

vi.hoisted(() => vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined })));

import type { EgressAskedItem, EgressDeniedItem } from "../../src/core/events.ts";
import { EgressAskedView, EgressDeniedView } from "../../src/page/Egress.tsx";
import { type Page, PageProvider } from "../../src/page/page.ts";

const DENIED: EgressDeniedItem = {
  kind: "egress_denied",
  id: "t1 evil.example:443 unlisted",
  host: "evil.example",
  port: 443,
  why: "unlisted",
  count: 1,
  turn_id: "t1",
  at: "",
};
const ASKED: EgressAskedItem = {
  kind: "egress_asked",
  id: "a1",
  host: "new.example",
  port: 22,
  turn_id: "t1",
  answer: null,
  at: "",
};

const boxes: HTMLElement[] = [];

/** Something to draw in, which is empty again before the document goes: effects come after it was drawn. */
function drawn(): HTMLElement {
  const box = document.createElement("div");
  boxes.push(box);
  return box;
}

afterEach(() => {
  for (const box of boxes.splice(0)) render(null, box);
});

function refusal(fields: Partial<EgressDeniedItem>): string {
  const box = drawn();
  render(h(EgressDeniedView, { item: { ...DENIED, ...fields } }), box);
  return box.textContent ?? "";
}

/** The question, and what is answered when its buttons are clicked. */
function question(fields: Partial<EgressAskedItem>, { scopes = ["chat"], isGuest = false } = {}) {
  const answers: string[][] = [];
  const answerEgress = (...answer: string[]): Promise<boolean> => {
    answers.push(answer);
    return Promise.resolve(true);
  };
  const page = {
    say: () => undefined,
    identity: { me: { scopes } },
    conversation: { value: { isGuest, answerEgress } },
  } as unknown as Page;
  const box = drawn();
  const item = { ...ASKED, ...fields };
  render(h(PageProvider, { value: page }, h(EgressAskedView, { item })), box);
  return { box, answers };
}

it("says which host was refused, and why", () => {
  expect(refusal({})).toContain("evil.example was refused (not on this agent’s list).");
  expect(refusal({ port: 22, count: 178 })).toContain("evil.example:22 was refused (not on this agent’s list). ×178");
  expect(refusal({ host: "", port: 0, count: 40 })).toContain("Further connections were refused: 40 (not on this agent’s list).");
  expect(refusal({ why: "of tomorrow" })).toContain("of tomorrow");
});

it("asks the person, and an operator has one more answer", () => {
  const { box, answers } = question({});
  const names = [...box.querySelectorAll("button")].map((one) => one.dataset.testid);
  expect(names).toEqual(["egress-once", "egress-session", "egress-deny"]);
  expect(box.textContent).toContain("new.example:22");
  box.querySelector<HTMLElement>("[data-testid=egress-session]")?.click();
  expect(answers).toEqual([["a1", "session"]]);
  expect(question({}, { scopes: ["chat", "operate"] }).box.querySelector("[data-testid=egress-always]")).not.toBeNull();
});

it("shows what was answered, and asks nobody with a link", () => {
  expect(question({ answer: "timeout" }).box.textContent).toContain("Not answered in time");
  const { box } = question({}, { isGuest: true });
  expect(box.querySelector("button")).toBeNull();
});
