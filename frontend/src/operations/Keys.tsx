import { useState } from "preact/hooks";
import type { Api, KeySummary } from "../core/index.ts";
import { CopyButton, Dialog } from "../page/index.ts";
import { keys, makeKey, type NewKey, revokeKey } from "./admin.ts";
import { type AskFor, type Deed, FormDialog, LabelledField } from "./Deeds.tsx";
import { Heads } from "./Heads.tsx";
import { useLoaded } from "./loaded.ts";
import { moment, w, type Word } from "./words.ts";

const STATES: Record<string, Word> = { good: "keyGood", expired: "keyExpired", revoked: "keyRevoked" };
const SCOPES = ["chat", "read", "approve", "support", "operate", "admin"] as const;

/** API keys: which there are, a new one that is shown once, and an end to one. */
export function KeyTable({ api, tenantNames, ask }: { api: Api; tenantNames: readonly string[]; ask: AskFor }) {
  const { value, again } = useLoaded(() => keys(api), [api]);
  const [isMaking, make] = useState(false);
  const [made, show] = useState<string | null>(null);
  if (!value) return null;
  const rows = [...value.keys].reverse().sort((one, other) => Number(other.state === "good") - Number(one.state === "good"));
  return (
    <div class="table-box" id="ops-keys">
      <div class="ops-filters">
        <button type="button" class="button small" data-testid="new-key" onClick={() => make(true)}>
          {w("newKey")}
        </button>
      </div>
      <table class="ops-table" data-testid="keys">
        <caption>{w("keysCaption")}</caption>
        <Heads words={["keyName", "person", "tenant", "keyScopes", "state", "keyCreated", "keyEnds", "keyUsed", "actions"]} />
        <tbody>
          {rows.map((row) => (
            <KeyRow key={row.id} row={row} revoke={() => ask(deedOf(api, row, again))} />
          ))}
          {rows.length === 0 && (
            <tr>
              <td colSpan={9} class="quiet">
                {w("noKeys")}
              </td>
            </tr>
          )}
        </tbody>
      </table>
      {isMaking && (
        <MakeKey
          api={api}
          tenantNames={tenantNames}
          close={() => make(false)}
          made={(key) => {
            make(false);
            show(key);
            again();
          }}
        />
      )}
      {made !== null && <MadeKey text={made} close={() => show(null)} />}
    </div>
  );
}

function deedOf(api: Api, row: KeySummary, again: () => void): Deed {
  const { name } = row;
  return {
    title: w("revokeTitle"),
    text: w("revokeText", { name, who: `${row.tenant}/${row.subject}` }),
    verb: w("revoke"),
    act: async () => {
      await revokeKey(api, row.id);
      again();
      return w("keyIsRevoked", { name });
    },
  };
}

function KeyRow({ row, revoke }: { row: KeySummary; revoke(): void }) {
  const at = (time: string | null): string => (time ? moment(time) : w("never"));
  return (
    <tr data-testid="key-row" data-state={row.state}>
      <th scope="row" dir="auto">
        {row.name}
      </th>
      <td dir="auto">{row.subject}</td>
      <td dir="auto">{row.tenant}</td>
      <td dir="ltr">{row.scopes.join(", ")}</td>
      <td>{w(STATES[row.state] ?? "keyGood")}</td>
      <td>{at(row.created_at)}</td>
      <td>{at(row.expires_at)}</td>
      <td>{at(row.last_used_at)}</td>
      <td class="verbs">
        <button
          type="button"
          class="button small"
          data-testid="revoke"
          disabled={row.state !== "good"}
          aria-label={w("revokeOne", { name: row.name })}
          onClick={revoke}
        >
          {w("revoke")}
        </button>
      </td>
    </tr>
  );
}

interface MakeKeyProps {
  api: Api;
  tenantNames: readonly string[];
  close(): void;
  made(key: string): void;
}

function MakeKey({ api, tenantNames, close, made }: MakeKeyProps) {
  const [name, setName] = useState("");
  const [person, setPerson] = useState("");
  const [tenant, setTenant] = useState(tenantNames[0] ?? "default");
  const [days, setDays] = useState("");
  const [scopes, setScopes] = useState<readonly string[]>(["chat"]);
  const submit = async (): Promise<void> => {
    const wanted: NewKey = { name: name.trim(), tenant, scopes: [...scopes] };
    if (person.trim()) wanted.subject = person.trim();
    if (days) wanted.days = Number(days);
    made((await makeKey(api, wanted)).key);
  };
  const toggle = (scope: string): void =>
    setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope]);
  return (
    <FormDialog title={w("newKey").replace("…", "")} verb={w("keyMake")} close={close} submit={submit}>
      <LabelledField id="key-name" label={w("keyName")} value={name} change={setName} isRequired />
      <LabelledField id="key-person" label={w("keyPerson")} hint={w("keyPersonHint")} value={person} change={setPerson} />
      {tenantNames.length > 1 && (
        <div class="ops-field">
          <label for="key-tenant">{w("tenant")}</label>
          <select id="key-tenant" class="field wide" value={tenant} onChange={(event) => setTenant(event.currentTarget.value)}>
            {tenantNames.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </div>
      )}
      <fieldset class="ops-scopes">
        <legend>{w("keyScopes")}</legend>
        {SCOPES.map((scope) => (
          <label key={scope}>
            <input type="checkbox" checked={scopes.includes(scope)} onChange={() => toggle(scope)} /> <code>{scope}</code>
          </label>
        ))}
      </fieldset>
      <LabelledField id="key-days" label={w("keyDays")} hint={w("keyDaysHint")} value={days} change={setDays} type="number" />
    </FormDialog>
  );
}

/** The one time that the text of a key is shown; it is nowhere once this is closed. */
function MadeKey({ text, close }: { text: string; close(): void }) {
  return (
    <Dialog title={w("keyMadeTitle")} close={close}>
      <p>{w("keyMadeText")}</p>
      <div class="link-field">
        <input
          class="field wide"
          dir="ltr"
          readOnly
          aria-label={w("key")}
          data-testid="made-key"
          value={text}
          onFocus={(event) => event.currentTarget.select()}
        />
        <CopyButton text={text} />
      </div>
      <div class="dialog-verbs">
        <button type="button" class="button primary" data-testid="made-key-done" onClick={close}>
          {w("keyDone")}
        </button>
      </div>
    </Dialog>
  );
}
