import "./operations.css";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Api, ApiError, type Overview, systemClock, wordsOf } from "../core/index.ts";
import { DisplaySettings, language, t } from "../page/index.ts";
import { Chart } from "./Chart.tsx";
import { Costs } from "./Costs.tsx";
import { type AskFor, Confirm, type Deed } from "./Deeds.tsx";
import { Alarms, HealthLine } from "./Health.tsx";
import type { Series } from "./history.ts";
import { KeyTable } from "./Keys.tsx";
import { Monitor } from "./monitor.ts";
import { NodeTable } from "./Nodes.tsx";
import { PeopleTable } from "./People.tsx";
import { AuditLog, GatewayLog } from "./Records.tsx";
import { SessionTable } from "./Sessions.tsx";
import { RefusedTable } from "./Tables.tsx";
import { TenantTable } from "./Tenants.tsx";
import { number, size, w } from "./words.ts";

/** What operators watch, and the few things that they may do. */
export function Operations() {
  const api = useMemo(() => new Api({ baseUrl: new URL(".", document.baseURI).href }), []);
  const watch = useWatch(api);
  const [asked, ask] = useState<Deed | null>(null);
  const [said, say] = useSaying();
  const { overview, error } = watch;
  useEffect(() => {
    document.title = `${w("title")} · ${t("app")}`;
  }, [language.value]);
  const act = async (deed: Deed): Promise<void> => {
    ask(null);
    try {
      say(await deed.act());
    } catch (failure) {
      say(failure instanceof Error ? failure.message : String(failure));
    }
    await watch.refresh();
  };
  return (
    <div class="operations">
      <OperationsHeader
        isDraining={overview?.is_draining ?? false}
        drain={overview ? () => ask(drainOf(api)) : null}
      />
      <main>
        {error && <Problem error={error} api={api} retry={() => void watch.refresh()} />}
        {overview?.is_draining && (
          <p class="ops-note" role="status">
            {w("draining")}
          </p>
        )}
        {watch.health && <HealthLine health={watch.health} overview={overview} />}
        {watch.health && <Alarms rows={watch.health.alarms} />}
        {overview?.nodes && <NodeTable rows={overview.nodes} />}
        {overview && <Figures overview={overview} />}
        {overview && <Charts series={watch.series} now={watch.now} />}
        {watch.isKnown && <Everything api={api} watch={watch} ask={ask} say={say} />}
      </main>
      {asked && <Confirm deed={asked} close={() => ask(null)} act={() => void act(asked)} />}
      <p class={`toast ${said ? "is-shown" : ""}`} role="status" data-testid="ops-toast">
        {said}
      </p>
    </div>
  );
}

function Everything(props: { api: Api; watch: Monitor; ask: AskFor; say(words: string): void }) {
  const { api, watch, ask, say } = props;
  const isAdmin = watch.scopes.includes("admin");
  const numbers = watch.overview?.tenants ?? [];
  const names = [...new Set(["default", ...numbers.map((one) => one.tenant), ...watch.choices.tenants])];
  return (
    <>
      <SessionTable
        api={api}
        rows={watch.sessions}
        total={watch.total}
        filter={watch.filter}
        choices={watch.choices}
        choose={(filter) => void watch.choose(filter)}
        ask={ask}
      />
      <RefusedTable rows={watch.refused} />
      <TenantTable api={api} numbers={numbers} mayChange={isAdmin && watch.overview !== null} ask={ask} say={say} />
      {isAdmin && <PeopleTable api={api} ask={ask} />}
      {isAdmin && <KeyTable api={api} tenantNames={names} ask={ask} />}
      <Costs api={api} />
      {isAdmin && <AuditLog api={api} />}
      {isAdmin && watch.overview !== null && <GatewayLog api={api} />}
    </>
  );
}

const RANGES = [30, 360, 1440] as const;

/** `now` in seconds since 1970: drawn again whenever it moves on. */
function Charts({ series, now }: { series: Series; now: number }) {
  const [minutes, setMinutes] = useState<(typeof RANGES)[number]>(360);
  const data = series.since(now - minutes * 60, now);
  return (
    <section>
      <div class="ops-ranges" role="group" aria-label={w("rangeLabel")}>
        {RANGES.map((range) => (
          <button
            key={range}
            type="button"
            class="button small"
            data-testid={`range-${range}`}
            aria-pressed={range === minutes}
            onClick={() => setMinutes(range)}
          >
            {w(`range${range}`)}
          </button>
        ))}
      </div>
      <div class="charts">
        <Chart title={w("activity")} testId="chart-activity" data={data} lines={["sessions", "workers", "turns"]} />
        <Chart title={w("rates")} testId="chart-rates" data={data} lines={["starts", "turnRate", "errors"]} />
        <Chart
          title={w("latency")}
          testId="chart-latency"
          data={data}
          lines={["startP50", "startP99", "firstP50", "firstP99"]}
        />
        <Chart title={w("memoryChart")} testId="chart-memory" data={data} lines={["workerMemory", "gatewayMemory"]} />
      </div>
    </section>
  );
}

/** What is said at the bottom for a while. */
function useSaying(): [string, (words: string) => void] {
  const [said, set] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout>>();
  const say = (words: string): void => {
    set(words);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set(""), SAID_MS);
  };
  return [said, say];
}

const SAID_MS = 15_000;

function drainOf(api: Api): Deed {
  return {
    title: w("drainTitle"),
    text: w("drainText"),
    verb: w("drain").replace("…", ""),
    act: async () => {
      await api.drain();
      return w("drained");
    },
  };
}

function useWatch(api: Api): Monitor {
  const watch = useMemo(() => new Monitor(api, systemClock), [api]);
  const [, draw] = useState(0);
  useEffect(() => {
    const stop = watch.subscribe(() => draw((n) => n + 1));
    const onVisible = (): void => (document.visibilityState === "hidden" ? watch.stop() : watch.start());
    document.addEventListener("visibilitychange", onVisible);
    watch.start();
    return () => {
      stop();
      watch.stop();
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [watch]);
  return watch;
}

function OperationsHeader({ isDraining, drain }: { isDraining: boolean; drain: (() => void) | null }) {
  return (
    <header class="header">
      <h1>{w("title")}</h1>
      <a class="text-button" href="#">
        {w("toChat")}
      </a>
      <DisplaySettings />
      {drain && (
        <button type="button" class="button small" data-testid="drain" disabled={isDraining} onClick={drain}>
          {w("drain")}
        </button>
      )}
    </header>
  );
}

function Figures({ overview }: { overview: Overview }) {
  const all = [
    ["sessions", number(overview.sessions)],
    ["workers", `${number(overview.workers)} / ${number(overview.worker_limit)}`],
    ["turnsRunning", number(overview.turns_running)],
    ["perMinute", number(overview.turns_per_minute)],
    ["tokens", number(overview.tokens_per_minute)],
    ["memory", size(overview.worker_memory_bytes + overview.gateway_memory_bytes)],
  ] as const;
  return (
    <dl class="figures" data-testid="figures">
      {all.map(([word, value]) => (
        <div key={word}>
          <dt>{w(word)}</dt>
          <dd dir="ltr">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Problem({ error, api, retry }: { error: ApiError; api: Api; retry(): void }) {
  const [key, setKey] = useState("");
  const [refusal, refuse] = useState("");
  const signIn = async (): Promise<void> => {
    try {
      await api.signIn(key);
      retry();
    } catch (failure) {
      refuse(failure instanceof ApiError ? wordsOf(failure, language.value) : String(failure));
    }
  };
  if (error.status !== 401) {
    const words = error.status === 403 ? w("refused") : error.status === 0 ? w("unreachable") : error.message;
    return (
      <p class="ops-note is-error" role="alert" data-testid="ops-error">
        {words}
      </p>
    );
  }
  return (
    <form
      class="ops-note"
      onSubmit={(event) => {
        event.preventDefault();
        void signIn();
      }}
    >
      <label for="key">{w("keyNeeded")}</label>
      <input
        id="key"
        class="field"
        type="password"
        autocomplete="off"
        dir="ltr"
        required
        aria-label={w("key")}
        value={key}
        onInput={(event) => setKey(event.currentTarget.value)}
      />
      <button type="submit" class="button primary small">
        {w("use")}
      </button>
      {refusal && (
        <p class="is-error" role="alert" data-testid="ops-refusal">
          {refusal}
        </p>
      )}
    </form>
  );
}
