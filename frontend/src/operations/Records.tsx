import { type ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Api, AuditLine, LogLine } from "../core/index.ts";
import { audit, logLines } from "./admin.ts";
import { Heads } from "./Heads.tsx";
import { FilterChoice } from "./Sessions.tsx";
import { moment, w, type Word } from "./words.ts";

const SEARCH_DELAY_MS = 250;

interface RecordPage<Row> {
  lines: Row[];
  next: string | null;
}

interface RecordsProps<Row> {
  id: "audit" | "log";
  title: Word;
  label: Word;
  any: Word;
  options: readonly (readonly [string, Word])[];
  heads: readonly Word[];
  note?: string;
  read(words: string, choice: string, before: string | null): Promise<RecordPage<Row>>;
  row(line: Row, index: number): ComponentChildren;
}

/** A log that is searched a page at a time; read when it is opened, and not before. */
function Records<Row>(props: RecordsProps<Row>) {
  const [isOpen, open] = useState(false);
  const [words, setWords] = useState("");
  const [choice, setChoice] = useState("");
  const [before, setBefore] = useState<string | null>(null);
  const [page, show] = useState<RecordPage<Row> | null>(null);
  const [refusal, refuse] = useState("");
  useEffect(() => {
    if (!isOpen) return;
    let isCurrent = true;
    const timer = setTimeout(() => {
      props.read(words, choice, before).then(
        (found) => isCurrent && (show(found), refuse("")),
        (error: unknown) => isCurrent && refuse(error instanceof Error ? error.message : String(error)),
      );
    }, SEARCH_DELAY_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [isOpen, words, choice, before]);
  const from = (set: (value: string) => void) => (value: string) => {
    setBefore(null);
    set(value);
  };
  return (
    <details
      class="table-box ops-records"
      id={`ops-${props.id}`}
      data-testid={props.id}
      onToggle={(event) => open(event.currentTarget.open)}
    >
      <summary>{w(props.title)}</summary>
      <div class="ops-filters" role="search" aria-label={w(props.label)}>
        <input
          class="field"
          type="search"
          dir="auto"
          data-testid={`${props.id}-search`}
          aria-label={w(props.label)}
          placeholder={w(props.label)}
          value={words}
          onInput={(event) => from(setWords)(event.currentTarget.value)}
        />
        <FilterChoice
          id={props.id}
          any={props.any}
          value={choice}
          options={props.options.map(([value, word]) => [value, w(word)] as const)}
          choose={from(setChoice)}
        />
        {before !== null && (
          <button type="button" class="button small" onClick={() => setBefore(null)}>
            {w("newest")}
          </button>
        )}
        {page?.next && (
          <button type="button" class="button small" data-testid={`${props.id}-older`} onClick={() => setBefore(page.next)}>
            {w("older")}
          </button>
        )}
        {props.note && <span class="quiet">{props.note}</span>}
      </div>
      {refusal && (
        <p class="ops-refusal" role="alert">
          {refusal}
        </p>
      )}
      {page && page.lines.length === 0 && (
        <p class="quiet ops-nothing" role="status">
          {w(page.next ? "searchedSoFar" : "nothingFound")}
        </p>
      )}
      {page && page.lines.length > 0 && (
        <div class="ops-scroll" tabIndex={0} role="region" aria-label={w(props.title)}>
          <table class="ops-table">
            <Heads words={props.heads} />
            <tbody>{page.lines.map(props.row)}</tbody>
          </table>
        </div>
      )}
    </details>
  );
}

const OUTCOMES = [
  ["ok", "outcomeOk"],
  ["refused", "outcomeRefused"],
  ["failed", "outcomeFailed"],
] as const;
const OUTCOME_WORDS: Record<string, Word> = Object.fromEntries(OUTCOMES);

export function AuditLog({ api }: { api: Api }) {
  return (
    <Records<AuditLine>
      id="audit"
      title="audit"
      label="searchAudit"
      any="anyOutcome"
      options={OUTCOMES}
      heads={["when", "action", "outcome", "by", "on", "text"]}
      read={(words, outcome, before) => audit(api, words, outcome, before)}
      row={(line, index) => (
        <tr key={`${line.at} ${index}`} data-testid="audit-row">
          <td>{moment(line.at)}</td>
          <td dir="ltr">
            <code>{line.action}</code>
          </td>
          <td>{w(OUTCOME_WORDS[line.outcome] ?? "outcomeFailed")}</td>
          <td dir="auto">{line.tenant ? `${line.tenant}/${line.subject ?? ""}` : "–"}</td>
          <td dir="auto">{line.target ?? "–"}</td>
          <td dir="auto">{line.detail ?? ""}</td>
        </tr>
      )}
    />
  );
}

export function GatewayLog({ api }: { api: Api }) {
  return (
    <Records<LogLine>
      id="log"
      title="logLines"
      label="searchLog"
      any="anyLevel"
      options={[
        ["info", "levelInfo"],
        ["warning", "levelWarning"],
        ["error", "levelError"],
      ]}
      heads={["when", "level", "logger", "text"]}
      note={w("logNote")}
      read={(words, level, before) => logLines(api, words, level, before)}
      row={(line) => (
        <tr key={line.number} data-testid="log-row" class={`level-${line.level}`}>
          <td>{moment(line.at)}</td>
          <td dir="ltr">{line.level}</td>
          <td dir="ltr">{line.logger}</td>
          <td dir="ltr" class="log-text">
            {line.message}
          </td>
        </tr>
      )}
    />
  );
}
