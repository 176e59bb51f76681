import "./operations.css";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Api, ApiError, type Overview, systemClock, wordsOf } from "../core/index.ts";
import { Dialog, language, DisplaySettings, t } from "../page/index.ts";
import { Chart } from "./Chart.tsx";
import { Costs } from "./Costs.tsx";
import { Monitor } from "./monitor.ts";
import { PeopleTable } from "./People.tsx";
import { type Deed, RefusedTable, SessionTable, TenantTable } from "./Tables.tsx";
import { w } from "./words.ts";

/** What operators watch, and the few things that they may do. */
export function Operations() {
  const api = useMemo(() => new Api({ baseUrl: new URL(".", document.baseURI).href }), []);
  const watch = useWatch(api);
  const [asked, ask] = useState<Deed | null>(null);
  const [said, say] = useState("");
  const { overview, error } = watch;
  useEffect(() => {
    document.title = `${w("title")} · ${t("app")}`;
  }, [language.value]);
  const act = async (deed: Deed): Promise<void> => {
    ask(null);
    try {
      say(await done(api, deed));
    } catch (failure) {
      say(failure instanceof Error ? failure.message : String(failure));
    }
    await watch.refresh();
  };
  return (
    <div class="operations">
      <OperationsHeader isDraining={overview?.is_draining ?? false} drain={() => ask({ what: "drain" })} />
      <main>
        {error && <Problem error={error} api={api} retry={() => void watch.refresh()} />}
        {overview?.is_draining && (
          <p class="ops-note" role="status">
            {w("draining")}
          </p>
        )}
        {overview && (
          <>
            <Figures overview={overview} />
            <div class="charts">
              <Chart title={w("activity")} testId="chart-activity" monitor={watch} lines={["sessions", "workers", "turns"]} />
              <Chart title={w("rates")} testId="chart-rates" monitor={watch} lines={["starts", "turnRate"]} />
              <Chart
                title={w("latency")}
                testId="chart-latency"
                monitor={watch}
                lines={["startP50", "startP99", "firstP50", "firstP99"]}
              />
              <Chart
                title={w("memoryChart")}
                testId="chart-memory"
                monitor={watch}
                lines={["workerMemory", "gatewayMemory"]}
              />
            </div>
            <SessionTable rows={watch.sessions} total={watch.total} ask={ask} />
            <RefusedTable rows={watch.refused} />
            <TenantTable rows={overview.tenants} />
            <PeopleTable api={api} />
            <Costs api={api} />
          </>
        )}
      </main>
      {asked && <Confirm deed={asked} close={() => ask(null)} act={() => void act(asked)} />}
      <p class={`toast ${said ? "is-shown" : ""}`} role="status" data-testid="ops-toast">
        {said}
      </p>
    </div>
  );
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

async function done(api: Api, deed: Deed): Promise<string> {
  if (deed.what === "drain") {
    await api.drain();
    return w("drained");
  }
  const { state } = await api.endWorker(deed.row.key, deed.what);
  return w("done", { key: deed.row.key, state });
}

function OperationsHeader({ isDraining, drain }: { isDraining: boolean; drain(): void }) {
  return (
    <header class="header">
      <h1>{w("title")}</h1>
      <a class="text-button" href="#">
        {w("toChat")}
      </a>
      <DisplaySettings />
      <button type="button" class="button small" data-testid="drain" disabled={isDraining} onClick={drain}>
        {w("drain")}
      </button>
    </header>
  );
}

function Figures({ overview }: { overview: Overview }) {
  const format = new Intl.NumberFormat(language.value, { maximumFractionDigits: 1 });
  const all = [
    ["sessions", format.format(overview.sessions)],
    ["workers", `${format.format(overview.workers)} / ${format.format(overview.worker_limit)}`],
    ["turnsRunning", format.format(overview.turns_running)],
    ["perMinute", format.format(overview.turns_per_minute)],
    ["tokens", format.format(overview.tokens_per_minute)],
    ["memory", `${format.format((overview.worker_memory_bytes + overview.gateway_memory_bytes) / 1e6)} MB`],
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

function Confirm({ deed, close, act }: { deed: Deed; close(): void; act(): void }) {
  const key = deed.what === "drain" ? "" : deed.row.key;
  return (
    <Dialog title={w(`${deed.what}Title`)} close={close}>
      <p>{w(`${deed.what}Text`, { key })}</p>
      <div class="dialog-verbs">
        <button type="button" class="button" autofocus onClick={close}>
          {w("cancel")}
        </button>
        <button type="button" class="button danger" data-testid="ops-confirm" onClick={act}>
          {w(deed.what).replace("…", "")}
        </button>
      </div>
    </Dialog>
  );
}
