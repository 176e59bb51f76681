/** What can be chosen of the agent: its mode, its model, its own options. One button in the composer opens them. */

import { useRef, useState } from "preact/hooks";
import type { SessionOption } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

const OptionChoices = lazily(() => import("./OptionChoices.tsx").then((loaded) => loaded.OptionChoices));

/** So many characters of a value are in the button. */
const SHOWN = 24;

export function Options() {
  const conversation = useConversation();
  const panel = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const [isOpen, setOpen] = useState(false);
  const options = conversation.chat.session_options;
  if (options.length === 0 || conversation.isGuest) return null;
  const summary = options.filter(isMain).map(shown).join(" · ");
  const place = (): void => {
    if (!panel.current || !button.current) return;
    const at = button.current.getBoundingClientRect();
    const left = document.documentElement.dir === "rtl" ? at.right - panel.current.offsetWidth : at.left;
    panel.current.style.left = `${Math.max(8, Math.min(left, innerWidth - panel.current.offsetWidth - 8))}px`;
    // Above the message field, so that what was written stays in sight.
    const top = button.current.closest(".composer")?.getBoundingClientRect().top ?? at.top;
    panel.current.style.bottom = `${innerHeight - top + 6}px`;
    panel.current.querySelector<HTMLElement>("select:enabled, input:enabled")?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class="options-button"
        data-testid="options"
        popovertarget="options"
        aria-expanded={isOpen}
        aria-label={`${t("options")}: ${summary}`}
      >
        <span dir="auto">{summary || t("options")}</span>
        <Icon name="chevron" />
      </button>
      <div
        id="options"
        ref={panel}
        class="menu options"
        popover="auto"
        role="dialog"
        aria-label={t("options")}
        onToggle={(event) => setOpen(event.newState === "open")}
      >
        {isOpen && <OptionChoices place={place} />}
      </div>
    </>
  );
}

function isMain(option: SessionOption): boolean {
  return option.category === "mode" || option.category === "model";
}

function shown(option: SessionOption): string {
  const choice = option.choices.find((one) => one.value === option.value);
  return clipped(choice?.name ?? String(option.value), SHOWN);
}
