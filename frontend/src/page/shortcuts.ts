/** Does what a shortcut says, from anywhere on the page. */

import { useEffect } from "preact/hooks";
import { type Shortcut, shortcutOf } from "./keys.ts";
import { overlay } from "./overlay.ts";
import { type Page, usePage } from "./page.ts";
import { holdTyping } from "./typeahead.ts";

export function useShortcuts(): void {
  const page = usePage();
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
      const shortcut = shortcutOf(event);
      if (shortcut === null) return;
      event.preventDefault();
      void run(shortcut, page);
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [page]);
}

async function run(shortcut: Shortcut, page: Page): Promise<void> {
  if (shortcut === "palette" || shortcut === "settings" || shortcut === "shortcuts") {
    overlay.value = { what: shortcut };
    if (shortcut === "palette") holdTyping(() => overlay.peek()?.what === shortcut);
    return;
  }
  if (shortcut === "help") {
    overlay.value = { what: "shortcuts" };
    return;
  }
  const { actions, walkMessages } = await import("./actions.ts");
  if (shortcut === "older" || shortcut === "newer") return walkMessages(shortcut === "older" ? -1 : 1);
  await actions(page)
    .find((action) => action.id === shortcut)
    ?.run();
}
