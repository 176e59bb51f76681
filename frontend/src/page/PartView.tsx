import { effect, untracked } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Page } from "./page.ts";
import { usePage } from "./page.ts";
import type { Ending, PagePart, PartPlace } from "./part.ts";
import { language } from "./preferences.ts";

/** The parts that have a view in the line above the conversation. */
export function HeaderParts() {
  const page = usePage();
  return page.parts.value
    .filter((part) => part.header)
    .map((part) => <PartView key={keyOf(part)} part={part} view="header" />);
}

/** The panel that is open, drawn anew for each session. */
export function OpenPanel() {
  const page = usePage();
  const part = page.openPanel.value;
  if (part === null || !page.parts.value.includes(part)) return null;
  return <PartView key={`${keyOf(part)} ${page.conversation.value.sessionId}`} part={part} view="panel" />;
}

function keyOf(part: PagePart): string {
  return part.applications.join(" ");
}

/** Gives a view of a part its place. A view that fails is left out; the page goes on. */
function PartView({ part, view }: { part: PagePart; view: "header" | "panel" }) {
  const page = usePage();
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const drawn = draw(part, view, element, placeOf(page, part));
    return () => void drawn.then((end) => end());
  }, [page, part, view]);
  return <div ref={box} class="part" data-part={keyOf(part)} />;
}

async function draw(part: PagePart, view: "header" | "panel", element: HTMLElement, place: PartPlace): Promise<Ending> {
  try {
    const end = await part[view]?.(element, place);
    return () => end?.();
  } catch (error) {
    console.warn(`Agent Gateway: the ${view} of ${keyOf(part)} was not drawn: ${String(error)}`);
    return () => undefined;
  }
}

function placeOf(page: Page, part: PagePart): PartPlace {
  const { api, openPanel } = page;
  const shown = () => page.conversation.peek();
  return {
    api,
    get sessionId() {
      return shown().sessionId;
    },
    get agent() {
      return shown().agent;
    },
    get currentAgent() {
      return shown().chat.agent ?? page.store.chosenAgent ?? page.store.defaultAgent?.name ?? null;
    },
    get value() {
      return part.fold && shown().chat.valueOf(part.fold);
    },
    get isProcessing() {
      return shown().isProcessing;
    },
    get language() {
      return language.peek();
    },
    get isPanelOpen() {
      return openPanel.peek() === part;
    },
    set isPanelOpen(isOpen) {
      if (isOpen !== (openPanel.peek() === part)) openPanel.value = isOpen ? part : null;
    },
    onChange(call) {
      let isFirst = true;
      return effect(() => {
        void [page.chatVersion.value, page.storeVersion.value, page.conversation.value, language.value, openPanel.value];
        if (!isFirst) untracked(call);
        isFirst = false;
      });
    },
    tell: (text) => page.tell(text),
  };
}
