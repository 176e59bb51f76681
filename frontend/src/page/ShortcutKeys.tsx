/** Changes which keys do what, in this browser. Loaded when somebody wants to. */

import "./shortcut-keys.css";
import { useState } from "preact/hooks";
import { w } from "./deed-words.ts";
import { keysIn } from "./key-names.ts";
import { changeShortcuts, pressed, type Shortcut, SHORTCUTS, shortcuts, type ShortcutTable } from "./keys.ts";
import { textsOf } from "./preferences.ts";
import { faultOf } from "./shortcut-rules.ts";

const say = textsOf({
  en: {
    press: "Press the keys…",
    none: "No keys",
    change: "{name}: {keys}. Change",
    about: "Choose one, then press the keys it shall have. Backspace takes them away, Esc leaves all as it was.",
    used: "{keys} is “{name}” already.",
    reserved: "{keys} belongs to the browser or to this page.",
    plain: "{keys} would be typed: hold Ctrl or Alt, too.",
    taken: "{name}: {keys}",
    reset: "All as they were at first",
  },
  he: {
    press: "הקישו את המקשים…",
    none: "ללא מקשים",
    change: "{name}: {keys}. שינוי",
    about: "בחרו קיצור והקישו את המקשים הרצויים. Backspace מסיר אותם, Esc משאיר הכול כפי שהיה.",
    used: "{keys} כבר משמש ל„{name}”.",
    reserved: "{keys} שייך לדפדפן או לדף הזה.",
    plain: "{keys} היה מוקלד בטקסט: החזיקו גם Ctrl או Alt.",
    taken: "{name}: {keys}",
    reset: "הכול כפי שהיה בהתחלה",
  },
});

const MODIFIERS = new Set(["Control", "Meta", "Alt", "AltGraph", "Shift"]);

export function ShortcutKeys() {
  const [asked, setAsked] = useState<Shortcut | null>(null);
  const [said, setSaid] = useState("");
  const table = shortcuts.value;
  const shown = (keys: string): string => (keys === "" ? say("none") : keysIn(keys));
  const take = (name: Shortcut, keys: string): void => {
    const fault = faultOf(table, name, keys);
    if (fault === null) {
      changeShortcuts({ ...table, [name]: keys });
      setAsked(null);
    }
    const said = typeof fault === "string" ? say(fault, { keys: keysIn(keys) }) : null;
    const usedBy = typeof fault === "object" && fault !== null ? w(fault.usedBy) : null;
    setSaid(said ?? (usedBy === null ? say("taken", { name: w(name), keys: shown(keys) }) : say("used", { keys: keysIn(keys), name: usedBy })));
  };
  const onKey = (event: KeyboardEvent): void => {
    if (asked === null || MODIFIERS.has(event.key) || event.isComposing) return;
    if (event.key === "Tab") return setAsked(null);
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") setAsked(null);
    else if (!event.repeat) take(asked, event.key === "Backspace" ? "" : pressed(event));
  };
  return (
    <div class="shortcut-keys" data-testid="shortcut-keys">
      <p class="quiet">{say("about")}</p>
      <ul onKeyDown={onKey}>
        {(Object.keys(SHORTCUTS) as Shortcut[]).map((name) => (
          <li key={name}>
            <span>{name === "help" ? `${w(name)} (${keysIn(SHORTCUTS.help)})` : w(name)}</span>
            <button
              type="button"
              class="button small"
              data-testid={`shortcut-${name}`}
              aria-pressed={asked === name}
              aria-label={asked === name ? say("press") : say("change", { name: w(name), keys: shown(table[name]) })}
              onClick={() => {
                setSaid("");
                setAsked(asked === name ? null : name);
              }}
              onBlur={() => setAsked((now) => (now === name ? null : now))}
            >
              <span dir={asked === name || table[name] === "" ? undefined : "ltr"}>{asked === name ? say("press") : shown(table[name])}</span>
            </button>
          </li>
        ))}
      </ul>
      <p role="status" data-testid="shortcut-said">
        {said}
      </p>
      <button
        type="button"
        class="link"
        data-testid="shortcuts-reset"
        onClick={() => {
          changeShortcuts({ ...SHORTCUTS } satisfies ShortcutTable);
          setSaid("");
        }}
      >
        {say("reset")}
      </button>
    </div>
  );
}
