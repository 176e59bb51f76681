import "./question.css";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import type { SessionOption } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

/** What can be chosen now. `place` puts the panel beside its button once it is as large as it will be. */
export function OptionChoices({ place }: { place(): void }) {
  const options = useConversation().chat.session_options;
  useLayoutEffect(place, []);
  return options.map((option) => <Choice key={option.option_id} option={option} />);
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
