import type { RefusedHostRow, TenantNumbers, WatchedSession } from "../core/index.ts";
import { language } from "../page/index.ts";
import { Heads } from "./Heads.tsx";
import { w } from "./words.ts";

/** What an operator asked for, until it is confirmed. */
export type Deed = { what: "park" | "kill"; row: WatchedSession } | { what: "drain" };

const BUSY = new Set(["starting", "running", "waiting", "interrupting"]);

interface SessionTableProps {
  rows: readonly WatchedSession[];
  total: number;
  ask(deed: Deed): void;
}

/** Everybody's sessions by their internal keys: no title, no word of what is said. */
export function SessionTable({ rows, total, ask }: SessionTableProps) {
  return (
    <div class="table-box">
      <table class="ops-table" data-testid="sessions">
        <caption>
          {w("caption")} <span class="quiet">({w("shown", { n: rows.length, total })})</span>
        </caption>
        <Heads words={["session", "tenant", "agent", "state", "network", "idle", "messages", "memory", "cpu", "actions"]} />
        <tbody>
          {rows.map((row) => (
            <WatchedRow key={row.key} row={row} ask={ask} />
          ))}
          {rows.length === 0 && (
            <tr>
              <td colSpan={10} class="quiet">
                {w("empty")}
              </td>
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

function WatchedRow({ row, ask }: { row: WatchedSession; ask(deed: Deed): void }) {
  const { key, state } = row;
  return (
    <tr data-testid="session-row" data-state={state}>
      <th scope="row" dir="ltr">
        <code>{key}</code>
      </th>
      <td dir="auto">{row.tenant}</td>
      <td dir="auto">{row.agent}</td>
      <td>
        <span class={`state state-${state}`}>{state}</span>
      </td>
      <td>{row.network ?? "–"}</td>
      <td class="number">{number(row.idle_seconds)} s</td>
      <td class="number">{number(row.messages)}</td>
      <td class="number">{number(row.memory_bytes / 1e6)} MB</td>
      <td class="number">{number(row.cpu_seconds)} s</td>
      <td class="verbs">
        <button
          type="button"
          class="button small"
          data-testid="park"
          disabled={state !== "idle"}
          aria-label={w("parkOne", { key })}
          onClick={() => ask({ what: "park", row })}
        >
          {w("park")}
        </button>
        <button
          type="button"
          class="button small"
          data-testid="kill"
          disabled={state !== "idle" && !BUSY.has(state)}
          aria-label={w("killOne", { key })}
          onClick={() => ask({ what: "kill", row })}
        >
          {w("kill")}
        </button>
      </td>
    </tr>
  );
}

export function TenantTable({ rows }: { rows: readonly TenantNumbers[] }) {
  if (rows.length < 2) return null;
  return (
    <div class="table-box">
      <table class="ops-table" data-testid="tenants">
        <caption>{w("tenants")}</caption>
        <Heads words={["tenant", "sessions", "workers", "memory", "perMinute", "tokens"]} />
        <tbody>
          {rows.map((row) => (
            <tr key={row.tenant}>
              <th scope="row" dir="auto">
                {row.tenant}
              </th>
              <td class="number">{number(row.sessions)}</td>
              <td class="number">{number(row.workers)}</td>
              <td class="number">{number(row.memory_bytes / 1e6)} MB</td>
              <td class="number">{number(row.turns_per_minute)}</td>
              <td class="number">{number(row.tokens_per_minute)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Hosts that agents were refused in the last day, each with the lines that would allow it. */
export function RefusedTable({ rows }: { rows: readonly RefusedHostRow[] }) {
  if (rows.length === 0) return null;
  return (
    <div class="table-box">
      <table class="ops-table" data-testid="refused-hosts">
        <caption>{w("refusedHosts")}</caption>
        <Heads words={["host", "agent", "tenant", "why", "times", "toAllow"]} />
        <tbody>
          {rows.slice(0, REFUSED_MOST).map((row) => (
            <tr key={`${row.tenant} ${row.agent} ${row.host}:${row.port} ${row.why}`}>
              <th scope="row" dir="ltr">
                <code>
                  {row.host}:{row.port}
                </code>
              </th>
              <td dir="auto">{row.agent}</td>
              <td dir="auto">{row.tenant}</td>
              <td>{row.why}</td>
              <td class="number">{number(row.count)}</td>
              <td dir="ltr">{row.toml && <code class="toml">{row.toml}</code>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** More than this nobody reads. */
const REFUSED_MOST = 100;

function number(value: number): string {
  return new Intl.NumberFormat(language.value, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}
