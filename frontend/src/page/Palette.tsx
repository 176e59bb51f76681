/** The palette: every action and the conversations, found by a few letters and done with Enter. */

import "./acting.css";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type PageAction, actions, perform } from "./actions.ts";
import { w } from "./deed-words.ts";
import { Dialog } from "./Dialogs.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { clipped } from "../core/pieces.ts";
import { keysShown } from "./key-names.ts";
import { usePage, useStore } from "./page.ts";
import { t } from "./preferences.ts";
import { typedMeanwhile } from "./typeahead.ts";

/** So many conversations are offered before something is typed, and afterwards. */
const RECENT = 6;
const FOUND_MOST = 30;

interface PaletteChoice {
  id: string;
  label: string;
  icon: IconName;
  group: "actions" | "recent";
  keys: string | null;
  run(): void;
}

export function Palette({ close }: { close(): void }) {
  const page = usePage();
  const store = useStore();
  const [typed, setTyped] = useState("");
  const [picked, setPicked] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const act = (action: PageAction) => (): void => {
    close();
    void perform(page, action);
  };
  const deeds = actions(page).map(
    (action): PaletteChoice => ({ ...action, group: "actions", keys: keysShown(action.id), run: act(action) }),
  );
  const sessions = store.sessions
    .filter((row) => row.session_id !== store.currentId)
    .map((row): PaletteChoice => {
      const run = (): void => {
        close();
        store.select(row.session_id);
        page.isDrawerOpen.value = false;
      };
      const label = clipped(row.title || t("untitled"));
      return { id: `session ${row.session_id}`, label, icon: "move", group: "recent", keys: null, run };
    });
  const isSearch = typed.trim() !== "";
  const choices = isSearch
    ? [...matching(deeds, typed), ...matching(sessions, typed).slice(0, FOUND_MOST)]
    : [...sessions.slice(0, RECENT), ...deeds];
  // Behind the dialog's own effect, which gives the field the focus.
  useLayoutEffect(() => setTyped(typedMeanwhile()), []);
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [picked]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && choices.length > 0) setPicked((picked + step + choices.length) % choices.length);
    else if (event.key === "Enter") choices[picked]?.run();
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title={w("paletteAsk")} look="palette" close={close}>
      <input
        class="field wide"
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={choices[picked] && `palette-${picked}`}
        aria-label={w("paletteAsk")}
        autocomplete="off"
        spellcheck={false}
        autofocus
        dir="auto"
        placeholder={w("paletteAsk")}
        data-testid="palette"
        value={typed}
        onInput={(event) => {
          setTyped(event.currentTarget.value);
          setPicked(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul id="palette-list" ref={list} role="listbox" aria-label={w("paletteList")}>
        {choices.map((choice, place) => (
          <li
            key={choice.id}
            id={`palette-${place}`}
            role="option"
            aria-selected={place === picked}
            data-testid="palette-choice"
            data-choice={choice.id}
            onMouseMove={() => setPicked(place)}
            onClick={choice.run}
          >
            <Icon name={choice.icon} />
            <span>
              <bdi>{choice.label}</bdi>
            </span>
            {choice.group === "recent" && <small class="quiet">{w("recent")}</small>}
            {choice.keys && <kbd dir="ltr">{choice.keys}</kbd>}
          </li>
        ))}
      </ul>
      <p class="quiet" role="status">
        {choices.length === 0 && w("paletteNone")}
      </p>
    </Dialog>
  );
}

/** Those that have every word that was typed; the ones that begin with it come first. */
function matching(choices: readonly PaletteChoice[], typed: string): PaletteChoice[] {
  const said = typed.trim().toLowerCase();
  const words = said.split(/\s+/);
  const found = choices.filter(({ label }) => words.every((word) => label.toLowerCase().includes(word)));
  const isFirst = ({ label }: PaletteChoice): boolean => label.toLowerCase().startsWith(said);
  return [...found.filter(isFirst), ...found.filter((one) => !isFirst(one))];
}
