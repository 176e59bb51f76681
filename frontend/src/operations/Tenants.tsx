import { useState } from "preact/hooks";
import type { Api, TenantNumbers, TenantSummary } from "../core/index.ts";
import { makeTenant, switchTenant, tenants } from "./admin.ts";
import { type AskFor, type Deed, FormDialog, LabelledField } from "./Deeds.tsx";
import { Heads } from "./Heads.tsx";
import { Limits } from "./Limits.tsx";
import { useLoaded } from "./loaded.ts";
import { number, size, w } from "./words.ts";

interface TenantTableProps {
  api: Api;
  /** What each does at the moment. */
  numbers: readonly TenantNumbers[];
  mayChange: boolean;
  ask: AskFor;
  say(words: string): void;
}

/** Tenants with their limits and what they use today. */
export function TenantTable({ api, numbers, mayChange, ask, say }: TenantTableProps) {
  const { value, again } = useLoaded(() => tenants(api), [api, numbers.length]);
  const [isMaking, make] = useState(false);
  if (!value) return null;
  return (
    <div class="table-box" id="ops-tenants">
      {mayChange && (
        <div class="ops-filters">
          <button type="button" class="button small" data-testid="new-tenant" onClick={() => make(true)}>
            {w("newTenant")}
          </button>
        </div>
      )}
      <table class="ops-table" data-testid="tenants">
        <caption>{w("tenants")}</caption>
        <Heads
          words={["tenant", "state", "sessions", "stored", "workers", "memory", "perMinute", "tokens", "messagesToday", "limits", "actions"]}
        />
        <tbody>
          {value.tenants.map((row) => (
            <TenantLine
              key={row.name}
              row={row}
              now={numbers.find((one) => one.tenant === row.name)}
              change={mayChange ? () => ask(deedOf(api, row, again)) : null}
            />
          ))}
        </tbody>
      </table>
      {isMaking && (
        <MakeTenant
          api={api}
          close={() => make(false)}
          made={(name) => {
            make(false);
            again();
            say(w("tenantMade", { name }));
          }}
        />
      )}
    </div>
  );
}

function deedOf(api: Api, row: TenantSummary, again: () => void): Deed {
  const how = row.is_disabled ? "enable" : "disable";
  const { name } = row;
  return {
    title: w(`${how}TenantTitle`),
    text: w(`${how}TenantText`, { name, sessions: number(row.sessions_live) }),
    verb: w(how),
    isHarmless: how === "enable",
    act: async () => {
      await switchTenant(api, name, how);
      again();
      return w(how === "disable" ? "tenantDisabled" : "tenantEnabled", { name });
    },
  };
}

function TenantLine(props: { row: TenantSummary; now: TenantNumbers | undefined; change: (() => void) | null }) {
  const { row, now, change } = props;
  const how = row.is_disabled ? "enable" : "disable";
  return (
    <tr data-testid="tenant-row">
      <th scope="row" dir="auto">
        {row.name} {row.title && <span class="quiet">{row.title}</span>}
      </th>
      <td>{w(row.is_disabled ? "disabled" : "enabled")}</td>
      <td class="number">{number(now?.sessions ?? 0)}</td>
      <td class="number">{number(row.sessions_stored)}</td>
      <td class="number">{number(now?.workers ?? 0)}</td>
      <td class="number">{size(now?.memory_bytes ?? 0)}</td>
      <td class="number">{number(now?.turns_per_minute ?? 0)}</td>
      <td class="number">{number(now?.tokens_per_minute ?? 0)}</td>
      <td class="number">{number(row.messages)}</td>
      <td>
        <Limits rows={row.limits ?? []} />
      </td>
      <td class="verbs">
        {change && row.name !== "default" && (
          <button
            type="button"
            class="button small"
            data-testid={`tenant-${how}`}
            aria-label={w(`${how}One`, { who: row.name })}
            onClick={change}
          >
            {w(how)}
          </button>
        )}
      </td>
    </tr>
  );
}

function MakeTenant({ api, close, made }: { api: Api; close(): void; made(name: string): void }) {
  const [name, setName] = useState("");
  const [title, setTitle] = useState("");
  const submit = async (): Promise<void> => {
    await makeTenant(api, name.trim(), title.trim());
    made(name.trim());
  };
  return (
    <FormDialog title={w("newTenant").replace("…", "")} verb={w("keyMake")} close={close} submit={submit}>
      <LabelledField id="tenant-name" label={w("tenantName")} hint={w("tenantNameHint")} value={name} change={setName} isRequired />
      <LabelledField id="tenant-title" label={w("tenantTitle")} value={title} change={setTitle} />
    </FormDialog>
  );
}
