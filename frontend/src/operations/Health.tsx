import type { AlarmRow, GatewayHealth, Overview } from "../core/index.ts";
import { language } from "../page/index.ts";
import { ALARMS } from "./alarms.ts";
import { nodeWords } from "./Nodes.tsx";
import { moment, number, size, span, w, type Word } from "./words.ts";

const CHECKS: Record<string, Word> = {
  store: "checkStore",
  disk: "checkDisk",
  forkserver: "checkForkserver",
  tasks: "checkTasks",
  draining: "checkDraining",
  lease: "checkLease",
};

/** What is checked, in words; what is new to this page by its name. */
function nameOf(check: string): string {
  const word = CHECKS[check];
  return word === undefined ? check : w(word);
}

/** The gateway in one line: is it well, and if not, what is not. */
export function HealthLine({ health, overview }: { health: GatewayHealth; overview: Overview | null }) {
  const bad = Object.entries(health.checks).filter(([, check]) => !check.is_well);
  const isWell = bad.length === 0 && health.alarms.length === 0;
  const isCritical = bad.length > 0 || health.alarms.some((alarm) => alarm.severity === "critical");
  const rejected = Object.values(health.rejections).reduce((sum, count) => sum + count, 0);
  return (
    <section class="ops-health" aria-label={w("health")} data-testid="health">
      <p class={`verdict ${isWell ? "is-well" : isCritical ? "is-bad" : "is-warned"}`} role="status">
        {isWell ? w("allWell") : w("alarmCount", { n: number(Math.max(health.alarms.length, bad.length)) })}
      </p>
      <dl>
        {Object.entries(health.checks).map(([name, check]) => (
          <Fact key={name} label={nameOf(name)} isBad={!check.is_well}>
            {check.is_well ? (name === "disk" ? w("diskFree", { size: size(health.disk_free_bytes) }) : w("well")) : check.words || w("notWell")}
          </Fact>
        ))}
        {health.database_bytes > 0 && <Fact label={w("database")}>{size(health.database_bytes)}</Fact>}
        <Fact label={w("walls")} isBad={health.walls === "none"} hint={health.walls_missing}>
          {health.walls}
        </Fact>
        <Fact label={w("errorsLately")} isBad={health.failed_answers > 0} hint={named(health.errors)}>
          {number(health.failed_answers)}
        </Fact>
        <Fact label={w("rejectedLately")} hint={named(health.rejections)}>
          {number(rejected)}
        </Fact>
        {overview?.nodes && (
          <Fact label={w("gateways")} isBad={overview.nodes.some((one) => one.state === "silent")}>
            {nodeWords(overview.nodes)}
          </Fact>
        )}
        <Fact label={w("version")}>{health.version}</Fact>
        <Fact label={w("uptime")}>{span(overview?.uptime_seconds ?? health.uptime_seconds)}</Fact>
      </dl>
    </section>
  );
}

function Fact(props: { label: string; isBad?: boolean; hint?: string; children: preact.ComponentChildren }) {
  return (
    <div class={props.isBad ? "is-bad" : ""} {...(props.hint && { title: props.hint })}>
      <dt>{props.label}</dt>
      <dd dir="auto">{props.children}</dd>
    </div>
  );
}

/** Each alarm that holds, since when, and what to do about it. */
export function Alarms({ rows }: { rows: readonly AlarmRow[] }) {
  if (rows.length === 0) return null;
  return (
    <section class="ops-alarms" aria-label={w("alarms")} data-testid="alarms">
      {rows.map((row) => (
        <article key={row.name} class={`ops-note ${row.severity === "critical" ? "is-error" : ""}`}>
          <h2>
            {ALARMS[language.value][row.name]?.title ?? row.name}{" "}
            <span class="alarm-since">{w("since", { time: moment(row.since) })}</span>
          </h2>
          <p>{marked(ALARMS[language.value][row.name]?.toDo ?? "")}</p>
        </article>
      ))}
    </section>
  );
}

/** What stands between backticks is code. */
function marked(text: string) {
  return text.split("`").map((part, index) => (index % 2 ? <code dir="ltr">{part}</code> : part));
}

function named(counts: Record<string, number>): string {
  return Object.entries(counts)
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => `${name}: ${number(count)}`)
    .join(", ");
}
