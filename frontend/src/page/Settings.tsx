/** The settings of this browser, and what the person has at the gateway: keys and usage. */

import "./acting.css";
import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type DeedWord, w } from "./deed-words.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { keysIn } from "./key-names.ts";
import { lazily } from "./lazy.tsx";
import { overlay } from "./overlay.ts";
import { useOwnKeys } from "./own-keys.ts";
import { useIdentity } from "./page.ts";
import {
  chooseLanguage,
  chosenTheme,
  DENSITIES,
  density,
  ENTERS,
  enter,
  language,
  notify,
  singleKeys,
  sound,
  TEXT_SIZES,
  textSize,
  THEMES,
} from "./preferences.ts";

const OwnKeyRows = lazily(() => import("./Keys.tsx").then((loaded) => loaded.OwnKeyRows));
const ShortcutKeys = lazily(() => import("./ShortcutKeys.tsx").then((loaded) => loaded.ShortcutKeys));
const UsageOfMine = lazily(() => import("./UsageDialog.tsx").then((loaded) => loaded.UsageOfMine));

type Tab = "general" | "keys" | "usage";

export function SettingsDialog({ close }: { close(): void }) {
  const { me } = useIdentity();
  const hasKeys = useOwnKeys().length > 0;
  const [tab, setTab] = useState<Tab>("general");
  const isPerson = me !== null && me.kind !== "visitor";
  const tabs: Tab[] = [
    "general",
    ...(hasKeys ? (["keys"] as const) : []),
    ...(isPerson && me.scopes.includes("read") ? (["usage"] as const) : []),
  ];
  const walk = (event: KeyboardEvent): void => {
    const isRtl = document.documentElement.dir === "rtl";
    const step = { ArrowRight: isRtl ? -1 : 1, ArrowLeft: isRtl ? 1 : -1 }[event.key];
    const next = step === undefined ? undefined : tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    if (next === undefined) return;
    event.preventDefault();
    setTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <Dialog title={w("settings")} look="settings" close={close}>
      {tabs.length > 1 && (
        <div role="tablist" class="tabs" aria-label={w("settings")} onKeyDown={walk}>
          {tabs.map((name) => (
            <button
              key={name}
              id={`tab-${name}`}
              type="button"
              role="tab"
              class="tab"
              aria-selected={tab === name}
              aria-controls="settings-panel"
              tabIndex={tab === name ? 0 : -1}
              data-testid={`settings-${name}`}
              onClick={() => setTab(name)}
            >
              {w(name)}
            </button>
          ))}
        </div>
      )}
      <div
        id="settings-panel"
        class="settings-panel"
        data-testid="settings"
        {...(tabs.length > 1 && { role: "tabpanel", "aria-labelledby": `tab-${tab}` })}
      >
        {tab === "general" && <General />}
        {tab === "keys" && <OwnKeyRows />}
        {tab === "usage" && <UsageOfMine />}
      </div>
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

function General() {
  const [isChanging, setChanging] = useState(false);
  return (
    <>
      <SettingGroup title="appearance">
        <Choose title="theme" of={THEMES} chosen={chosenTheme} />
        <Choose title="density" of={DENSITIES} chosen={density} />
        <Choose title="textSize" of={TEXT_SIZES} chosen={textSize} />
        <label class="setting">
          <span>{w("language")}</span>
          <select
            class="field"
            data-testid="setting-language"
            value={language.value}
            onChange={(event) => chooseLanguage(event.currentTarget.value === "he" ? "he" : "en")}
          >
            <option value="en" lang="en">
              English
            </option>
            <option value="he" lang="he">
              עברית
            </option>
          </select>
        </label>
      </SettingGroup>
      <SettingGroup title="writing">
        <Choose title="enter" of={ENTERS} chosen={enter} />
      </SettingGroup>
      <SettingGroup title="attention">
        <Notifications />
        <Switch title="sound" on={sound.value} choose={(isOn) => (sound.value = isOn)} />
      </SettingGroup>
      <SettingGroup title="keyboard">
        <Switch
          title="singleKeys"
          about="singleKeysAbout"
          on={singleKeys.value}
          choose={(isOn) => (singleKeys.value = isOn)}
        />
        <button
          type="button"
          class="link"
          data-testid="all-shortcuts"
          onClick={() => {
            overlay.value = { what: "shortcuts" };
          }}
        >
          {w("allShortcuts")}
        </button>
        <button
          type="button"
          class="link"
          aria-expanded={isChanging}
          data-testid="change-shortcuts"
          onClick={() => setChanging(!isChanging)}
        >
          {w("changeShortcuts")}
        </button>
        {isChanging && <ShortcutKeys />}
      </SettingGroup>
      <p class="quiet">{w("kept")}</p>
    </>
  );
}

function SettingGroup({ title, children }: { title: DeedWord; children: ComponentChildren }) {
  return (
    <section class="setting-group" aria-label={w(title)}>
      <h3>{w(title)}</h3>
      {children}
    </section>
  );
}

interface ChooseProps<T extends DeedWord> {
  title: DeedWord;
  of: readonly T[];
  chosen: Signal<T>;
}

/** One of a few, all of them in sight. */
function Choose<T extends DeedWord>({ title, of, chosen }: ChooseProps<T>) {
  return (
    <fieldset class="setting">
      <legend>{w(title)}</legend>
      <div class="segments">
        {of.map((value) => (
          <label key={value} class="segment">
            <input
              type="radio"
              class="sr-only"
              name={title}
              value={value}
              checked={chosen.value === value}
              data-testid={`setting-${title}-${value}`}
              onChange={() => (chosen.value = value)}
            />
            <span>{w(value, { key: keysIn("mod") })}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

interface SwitchProps {
  title: DeedWord;
  about?: DeedWord;
  on: boolean;
  isDisabled?: boolean;
  choose(isOn: boolean): void;
}

function Switch({ title, about, on, isDisabled = false, choose }: SwitchProps) {
  const id = `setting-${title}`;
  return (
    <div class="setting">
      <label for={id}>
        {w(title)}
        {about && (
          <small class="quiet" id={`${id}-about`}>
            {w(about)}
          </small>
        )}
      </label>
      <input
        id={id}
        type="checkbox"
        role="switch"
        data-testid={id}
        disabled={isDisabled}
        checked={on}
        aria-describedby={about && `${id}-about`}
        onChange={(event) => choose(event.currentTarget.checked)}
      />
    </div>
  );
}

/** The browser asks the person, and only after a click; what it has refused, only its own settings allow. */
function Notifications() {
  const [permission, setPermission] = useState(() => ("Notification" in window ? Notification.permission : null));
  const choose = async (isOn: boolean): Promise<void> => {
    notify.value = isOn;
    if (!isOn || permission !== "default") return;
    const answer = await Notification.requestPermission();
    setPermission(answer);
    notify.value = answer === "granted";
  };
  const about = permission === null ? "notifyMissing" : permission === "denied" ? "notifyDenied" : "notifyAbout";
  const mayAsk = permission !== null && permission !== "denied";
  return (
    <Switch
      title="notify"
      about={about}
      on={notify.value && permission === "granted"}
      isDisabled={!mayAsk}
      choose={(isOn) => void choose(isOn)}
    />
  );
}
