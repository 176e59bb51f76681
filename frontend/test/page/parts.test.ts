// @vitest-environment jsdom
/** Parts of applications: which of them are shown, where they come from, and that none of them stops the page. */

import { h, render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Conversation } from "../../src/core/conversation.ts";
import type { LogEvent, Snapshot } from "../../src/core/events.ts";
import { ChatState } from "../../src/core/reduce.ts";
import type { PagePart } from "../../src/page/part.ts";
import { enabledIn, LOAD_MS, Parts } from "../../src/page/parts.ts";
import { FakeClock, settled } from "../fakes.ts";

/** What a stranger's application might bring: no framework, one event type, one line of text. */
const notes: PagePart<number> = {
  applications: ["notes"],
  fold: { name: "notes", types: ["note_added"], initial: 0, apply: (count) => count + 1 },
  header(element, place) {
    const button = document.createElement("button");
    const show = (): void => {
      button.textContent = `${place.value} notes`;
    };
    button.onclick = () => {
      place.isPanelOpen = !place.isPanelOpen;
    };
    show();
    element.append(button);
    const stop = place.onChange(show);
    return () => {
      stop();
      button.remove();
    };
  },
  panel(element, place) {
    element.textContent = `the notes of ${place.sessionId}`;
    return () => undefined;
  },
};
const builtIn: PagePart[] = [{ applications: ["one"] }, { applications: ["one", "two"] }];
const baseUrl = "https://gateway.example/chat/";

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
});
afterEach(() => vi.restoreAllMocks());

describe("what is shown", () => {
  const shown = (applications: unknown): number[] =>
    new Parts({ builtIn, baseUrl }).shown(applications).map((part) => builtIn.indexOf(part));

  it("is everything that is built in if the gateway does not say", () => {
    expect(shown(undefined)).toEqual([0, 1]);
    expect(shown(null)).toEqual([0, 1]);
    expect(shown("one")).toEqual([0, 1]);
  });

  it("is what all applications of a part are there for", () => {
    expect(shown([])).toEqual([]);
    expect(shown(["one"])).toEqual([0]);
    expect(shown(["two"])).toEqual([]);
    expect(shown([{ name: "two" }, "one", "three"])).toEqual([0, 1]);
  });

  it("is read whatever the list holds", () => {
    expect(enabledIn([1, null, {}, { name: 2 }, { name: "a", page: 3 }, ["b"], "c"])).toEqual([
      { name: "a", module: null },
      { name: "c", module: null },
    ]);
  });
});

describe("a module of another application", () => {
  const list = [{ name: "notes", page: "notes/page.js" }];

  it("is asked for once, below the gateway's address, and then folds and shows", async () => {
    const load = vi.fn(() => Promise.resolve({ default: notes }));
    const parts = new Parts({ builtIn, baseUrl, load });
    expect(parts.isComplete(list)).toBe(false);
    expect(await parts.load(list)).toEqual([]);
    expect(load.mock.calls).toEqual([["https://gateway.example/chat/notes/page.js"]]);
    expect(parts.isComplete(list)).toBe(true);
    expect(parts.shown(list).map((part) => part.applications)).toEqual([["notes"]]);
    expect(parts.shown([])).toEqual([]);
    expect(parts.folds.map((fold) => fold.name)).toEqual(["notes"]);
  });

  it.each([
    ["cannot be fetched", "notes/page.js", () => Promise.reject(new Error("404"))],
    ["has no part", "notes/page.js", () => Promise.resolve({})],
    ["is on another site", "https://elsewhere.example/page.js", () => Promise.resolve({ default: notes })],
    ["has no address", "http://", () => Promise.resolve({ default: notes })],
  ])("is left out and named if it %s", async (_why, page, load) => {
    const wanted = [{ name: "notes", page }, "one"];
    const parts = new Parts({ builtIn, baseUrl, load });
    expect(await parts.load(wanted)).toEqual(["notes"]);
    expect(parts.isComplete(wanted)).toBe(true);
    expect(parts.shown(wanted)).toEqual([builtIn[0]]);
  });

  it("is not waited for without end", async () => {
    const clock = new FakeClock();
    const parts = new Parts({ builtIn, baseUrl, clock, load: () => new Promise(() => undefined) });
    const failed = parts.load(list);
    await clock.pass(LOAD_MS);
    expect(await failed).toEqual(["notes"]);
  });
});

describe("a fold", () => {
  const event = (seq: number, type: string): LogEvent => ({ type, seq, at: "" });
  const fold = notes.fold!;

  it("takes in its own events, and goes on from a snapshot", () => {
    const chat = new ChatState("s", [fold]);
    for (const [place, type] of ["note_added", "text_delta_of_no_one", "note_added"].entries()) chat.apply(event(place + 1, type));
    expect(chat.valueOf(fold)).toBe(2);
    const again = ChatState.restore(JSON.parse(JSON.stringify(chat.snapshot())) as Snapshot, [fold]);
    again.apply(event(4, "note_added"));
    expect(again.valueOf(fold)).toBe(3);
    expect(again.snapshot()["notes"]).toBe(3);
  });

  it("starts anew if the snapshot does not know it", () => {
    const chat = ChatState.restore(new ChatState("s").snapshot(), [fold]);
    expect(chat.valueOf(fold)).toBe(0);
    expect(new ChatState("s").valueOf(fold)).toBe(0);
  });

  it("that fails stops nothing", () => {
    const broken = { ...fold, apply: () => { throw new Error("broken"); } };
    const chat = new ChatState("s", [broken, fold]);
    chat.apply(event(1, "note_added"));
    expect([chat.seq, chat.valueOf(broken), chat.valueOf(fold)]).toEqual([1, 0, 1]);
  });
});

describe("the views", () => {
  const made = async (parts: PagePart[]) => {
    const [{ signal }, { HeaderParts, OpenPanel }, { PageProvider }] = await Promise.all([
      import("@preact/signals"),
      import("../../src/page/PartView.tsx"),
      import("../../src/page/page.ts"),
    ]);
    const folds = parts.flatMap((part) => part.fold ?? []);
    const conversation = new Conversation({ api: { fetch } as never, sessionId: "s-1", folds });
    const page = {
      api: {},
      parts: signal(parts),
      openPanel: signal<PagePart | null>(null),
      chatVersion: signal(0),
      storeVersion: signal(0),
      conversation: signal(conversation),
    };
    const root = document.createElement("div");
    render(h(PageProvider, { value: page as never, children: [h(HeaderParts, {}), h(OpenPanel, {})] }), root);
    await settled();
    return { page, root, conversation };
  };

  beforeEach(() => {
    vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
    vi.stubGlobal("requestAnimationFrame", (call: () => void) => setTimeout(call));
  });
  afterEach(() => vi.unstubAllGlobals());

  it("follow what the fold comes to, and open one panel", async () => {
    const { page, root, conversation } = await made([notes as PagePart]);
    expect(root.textContent).toBe("0 notes");
    conversation.chat.apply({ type: "note_added", seq: 1, at: "" });
    page.chatVersion.value += 1;
    expect(root.textContent).toBe("1 notes");
    root.querySelector("button")?.click();
    await vi.waitFor(() => expect(root.textContent).toContain("the notes of s-1"));
    root.querySelector("button")?.click();
    await vi.waitFor(() => expect(root.textContent).toBe("1 notes"));
    page.parts.value = [];
    await vi.waitFor(() => expect(root.textContent).toBe(""));
  });

  it("that fail leave the others alone", async () => {
    const broken: PagePart = {
      applications: ["broken"],
      header: () => {
        throw new Error("broken");
      },
    };
    const { root } = await made([broken, notes as PagePart]);
    expect(root.textContent).toBe("0 notes");
  });
});
