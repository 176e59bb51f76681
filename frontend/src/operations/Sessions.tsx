import { type Api, gatewayNow, type WatchedSession } from "../core/index.ts";
import { endTurn, type SessionFilter } from "./admin.ts";
import type { AskFor } from "./Deeds.tsx";
import { Heads } from "./Heads.tsx";
import type { SessionChoices } from "./monitor.ts";
import { number, size, span, w, type Word } from "./words.ts";

const BUSY = new Set(["starting", "running", "waiting", "interrupting"]);

interface SessionTableProps {
  api: Api;
  rows: readonly WatchedSession[];
  total: number;
  filter: SessionFilter;
  choices: SessionChoices;
  choose(filter: SessionFilter): void;
  ask: AskFor;
}

/** Everybody's sessions by their internal keys: no title, no word of what is said. */
export function SessionTable({ api, rows, total, filter, choices, choose, ask }: SessionTableProps) {
  return (
    <div class="table-box" id="ops-sessions">
      <Filters filter={filter} choices={choices} choose={choose} />
      <table class="ops-table" data-testid="sessions">
        <caption>
          {w("caption")} <span class="quiet">({w("shown", { n: number(rows.length), total: number(total) })})</span>
        </caption>
        <Heads
          words={["session", "person", "tenant", "agent", "state", "network", "idle", "age", "messages", "memory", "cpu", "actions"]}
        />
        <tbody>
          {rows.map((row) => (
            <WatchedRow key={row.key} api={api} row={row} ask={ask} />
          ))}
          {rows.length === 0 && (
            <tr>
              <td colSpan={12} class="quiet">
                {w("empty")}
              </td>
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

function Filters(props: { filter: SessionFilter; choices: SessionChoices; choose(filter: SessionFilter): void }) {
  const { filter, choices, choose } = props;
  const states = Object.entries(choices.states).map(([state, count]) => [state, `${state} (${number(count)})`] as const);
  const plain = (names: readonly string[]) => names.map((name) => [name, name] as const);
  return (
    <div class="ops-filters" role="search" aria-label={w("searchSessions")}>
      <input
        class="field"
        type="search"
        dir="auto"
        data-testid="session-search"
        aria-label={w("searchSessions")}
        placeholder={w("searchSessions")}
        value={filter.q}
        onInput={(event) => choose({ ...filter, q: event.currentTarget.value })}
      />
      <FilterChoice id="state" any="anyState" value={filter.state} options={states} choose={(state) => choose({ ...filter, state })} />
      {choices.agents.length > 1 && (
        <FilterChoice
          id="agent"
          any="anyAgent"
          value={filter.agent}
          options={plain(choices.agents)}
          choose={(agent) => choose({ ...filter, agent })}
        />
      )}
      {choices.tenants.length > 1 && (
        <FilterChoice
          id="tenant"
          any="anyTenant"
          value={filter.tenant}
          options={plain(choices.tenants)}
          choose={(tenant) => choose({ ...filter, tenant })}
        />
      )}
    </div>
  );
}

/** A choice of which the first says that anything will do. */
export function FilterChoice(props: {
  id: string;
  any: Word;
  value: string;
  options: readonly (readonly [string, string])[];
  choose(value: string): void;
}) {
  return (
    <select
      class="field"
      data-testid={`choose-${props.id}`}
      aria-label={w(props.any)}
      value={props.value}
      onChange={(event) => props.choose(event.currentTarget.value)}
    >
      <option value="">{w(props.any)}</option>
      {props.options.map(([value, label]) => (
        <option key={value} value={value}>
          {label}
        </option>
      ))}
    </select>
  );
}

function WatchedRow({ api, row, ask }: { api: Api; row: WatchedSession; ask: AskFor }) {
  const { key, state } = row;
  const who = nameOf(row);
  const age = Math.max(0, (gatewayNow() - Date.parse(row.created_at)) / 1000);
  const stop = (how: "end" | "park" | "kill", isEnabled: boolean) => (
    <button
      type="button"
      class="button small"
      data-testid={how}
      disabled={!isEnabled}
      aria-label={w(`${how}One`, { who })}
      onClick={() =>
        ask({
          title: w(`${how}Title`),
          text: w(`${how}Text`, { who }),
          verb: w(how),
          act: async () => {
            const done = await (how === "end" ? endTurn(api, key) : api.endWorker(key, how));
            return w("done", { key, state: done.state });
          },
        })
      }
    >
      {w(how)}
    </button>
  );
  return (
    <tr data-testid="session-row" data-state={state}>
      <th scope="row" dir="ltr">
        <code class="short-key" title={key}>
          {key}
        </code>
      </th>
      <td dir="auto">{row.person ?? "–"}</td>
      <td dir="auto">{row.tenant}</td>
      <td dir="auto">{row.agent}</td>
      <td>
        <span class={`state state-${state}`}>{state}</span>
      </td>
      <td>{row.network ?? "–"}</td>
      <td class="number">{span(row.idle_seconds)}</td>
      <td class="number">{span(age)}</td>
      <td class="number">{number(row.messages)}</td>
      <td class="number">{size(row.memory_bytes)}</td>
      <td class="number">{number(row.cpu_seconds)} s</td>
      <td class="verbs">
        {stop("end", state === "running" || state === "waiting")}
        {stop("park", state === "idle")}
        {stop("kill", state === "idle" || BUSY.has(state))}
      </td>
    </tr>
  );
}

/** Whom it hits. */
function nameOf(row: WatchedSession): string {
  const { key, tenant, agent, state, person } = row;
  return person === undefined
    ? w("whoUnnamed", { key, tenant, agent, state })
    : w("who", { key, tenant, agent, state, person });
}
