import { useEffect, useState } from "preact/hooks";
import { ApiError, type OwnKeySummary, wordsOf } from "../core/index.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { Icon } from "./icons.tsx";
import { usePage } from "./page.ts";
import { language, moment, t } from "./preferences.ts";

/** Keys of one's own for models and hosts: set and removed here, never shown. */
export function KeysDialog({ close }: { close(): void }) {
  const page = usePage();
  const [keys, setKeys] = useState<OwnKeySummary[] | null>(null);
  useEffect(() => void page.api.ownKeys().then(setKeys, (error: unknown) => page.tellWhy(error)), []);
  const replace = (changed: OwnKeySummary): void =>
    setKeys((known) => known && known.map((one) => (one.name === changed.name ? changed : one)));
  return (
    <Dialog title={t("keysTitle")} close={close}>
      <p>{t("keysText")}</p>
      <ul class="own-keys" data-testid="own-keys">
        {keys?.map((one) => (
          <OwnKey key={one.name} one={one} changed={replace} />
        ))}
      </ul>
      <DialogClose close={close} />
    </Dialog>
  );
}

function OwnKey({ one, changed }: { one: OwnKeySummary; changed(key: OwnKeySummary): void }) {
  const page = usePage();
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const id = `own-key-${one.name}`;
  const ask = async (verb: Promise<OwnKeySummary>): Promise<void> => {
    setText("");
    setError("");
    try {
      changed(await verb);
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      setError(wordsOf(refusal, language.value));
    }
  };
  return (
    <li data-testid={id} data-state={one.state}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) void ask(page.api.setOwnKey(one.name, text.trim()));
        }}
      >
        <label for={id}>
          <strong dir="auto">{one.name}</strong> <span class="quiet">{stateOf(one)}</span>
        </label>
        {one.need !== "unused" && (
          <input
            id={id}
            class="field wide"
            type="password"
            autocomplete="off"
            spellcheck={false}
            dir="ltr"
            placeholder={t(one.state === "set" ? "keysReplace" : "keysPaste")}
            aria-describedby={`${id}-error`}
            aria-invalid={error !== ""}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        )}
        {one.need !== "unused" && (
          <button type="submit" class="button primary" disabled={!text.trim()}>
            {t("save")}
          </button>
        )}
        {one.state !== "not_set" && (
          <button type="button" class="button danger" onClick={() => void ask(page.api.removeOwnKey(one.name))}>
            {t("keysRemove")}
          </button>
        )}
      </form>
      <p class="field-error" role="alert" id={`${id}-error`}>
        {error && <Icon name="warn" />}
        {error}
      </p>
    </li>
  );
}

function stateOf(one: OwnKeySummary): string {
  if (one.state === "set" && one.set_at !== null) return t("keysSet", { time: moment(one.set_at) });
  if (one.state === "lost") return t("keysLost");
  if (one.has_fallback) return t("keysOthers");
  return t(one.need === "required" ? "keysRequired" : "keysNotSet");
}
