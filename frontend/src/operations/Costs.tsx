import { useState } from "preact/hooks";
import type { Api } from "../core/index.ts";
import { dollars, language } from "../page/index.ts";
import { Heads } from "./Heads.tsx";
import { useLoaded } from "./loaded.ts";
import { w, type Word } from "./words.ts";

const WAYS = ["tenant,model", "day", "person", "agent", "provider,model"] as const;
const HEADS: Record<string, Word> = {
  day: "day",
  tenant: "tenant",
  person: "person",
  agent: "agent",
  provider: "provider",
  model: "model",
};
const ROWS_MOST = 100;

/** What the last thirty days cost, by what the operator chooses; the whole of it as a table to download. */
export function Costs({ api }: { api: Api }) {
  const [by, setBy] = useState<string>(WAYS[0]);
  const { value: report } = useLoaded(() => api.allUsage(by), [api, by]);
  if (!report || report.total.calls === 0) return null;
  const { total } = report;
  return (
    <div class="table-box" data-testid="costs">
      <label>
        {w("costsBy")}{" "}
        <select class="field" value={by} data-testid="costs-by" onChange={(event) => setBy(event.currentTarget.value)}>
          {WAYS.map((way) => (
            <option key={way} value={way}>
              {way.split(",").map((name) => w(HEADS[name] ?? "day")).join(", ")}
            </option>
          ))}
        </select>
      </label>{" "}
      <a href={api.usageTableUrl(by)} download="usage.csv">
        CSV
      </a>
      <table class="ops-table">
        <caption>
          {w("costs")} <span class="quiet">({w("costsTotal", { cost: dollars(total.cost_usd), n: total.calls })})</span>
        </caption>
        <Heads words={[...report.by.map((name) => HEADS[name] ?? "day"), "calls", "tokensUsed", "cost"]} />
        <tbody>
          {report.rows.slice(0, ROWS_MOST).map((row) => (
            <tr key={report.by.map((name) => row.names[name]).join("\n")}>
              {report.by.map((name) => (
                <td key={name} dir="auto">
                  {row.names[name] || "–"}
                </td>
              ))}
              <td class="number">{count(row.calls)}</td>
              <td class="number">{count(row.tokens)}</td>
              <td class="number" dir="ltr">
                {dollars(row.cost_usd)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {total.unpriced_calls > 0 && <p class="quiet">{w("unpriced", { n: total.unpriced_calls })}</p>}
    </div>
  );
}

function count(value: number): string {
  return new Intl.NumberFormat(language.value).format(value);
}
