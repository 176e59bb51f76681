/** What can be chosen of the agent: its mode, its model, its own options. One button in the composer opens them. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { SessionOption } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { Icon } from "./icons.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

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
    panel.current.style.bottom = `${innerHeight - at.top + 6}px`;
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
        onToggle={(event) => {
          setOpen(event.newState === "open");
          if (event.newState === "open") place();
        }}
      >
        {options.map((option) => (
          <Choice key={option.option_id} option={option} />
        ))}
      </div>
    </>
  );
}

function Choice({ option }: { option: SessionOption }) {
  const conversation = useConversation();
  const id = `option-${option.option_id}`;
  /** What was chosen, until the log says it. */
  const [wanted, setWanted] = useState<string | boolean | null>(null);
  useEffect(() => setWanted(null), [option.value]);
  const value = wanted ?? option.value;
  const choose = async (next: string | boolean): Promise<void> => {
    setWanted(next);
    if (!(await conversation.chooseOption(option.option_id, next))) setWanted(null);
  };
  const common = { id, disabled: option.is_locked, "aria-describedby": `${id}-about` };
  const about = option.choices.find((choice) => choice.value === value)?.description || option.description;
  return (
    <div class={`option ${option.kind === "boolean" ? "is-switch" : ""}`} data-option={option.option_id}>
      <label for={id} dir="auto">
        {option.name}
      </label>
      {option.kind === "boolean" ? (
        <input
          type="checkbox"
          {...common}
          checked={value === true}
          onChange={(event) => void choose(event.currentTarget.checked)}
        />
      ) : (
        <select
          class="field wide"
          {...common}
          value={String(value)}
          onChange={(event) => void choose(event.currentTarget.value)}
        >
          {valuesOf(option).map((choice) => (
            <option key={choice.value} value={choice.value}>
              {choice.group ? `${choice.group}: ${choice.name}` : choice.name}
            </option>
          ))}
        </select>
      )}
      <p id={`${id}-about`} class="quiet">
        {option.is_locked ? t("optionLocked") : clipped(about, 200)}
      </p>
    </div>
  );
}

/** The choices, and the value of now if it is none of them. */
function valuesOf(option: SessionOption): SessionOption["choices"] {
  const value = String(option.value);
  if (option.choices.some((choice) => choice.value === value)) return option.choices;
  return [{ value, name: value, description: "", group: "" }, ...option.choices];
}

function isMain(option: SessionOption): boolean {
  return option.category === "mode" || option.category === "model";
}

function shown(option: SessionOption): string {
  const choice = option.choices.find((one) => one.value === option.value);
  return clipped(choice?.name ?? String(option.value), SHOWN);
}
