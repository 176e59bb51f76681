import type { RefusedHostRow } from "../core/index.ts";
import { Heads } from "./Heads.tsx";
import { number, w } from "./words.ts";

/** Hosts that agents were refused in the last day, each with the lines that would allow it. */
export function RefusedTable({ rows }: { rows: readonly RefusedHostRow[] }) {
  if (rows.length === 0) return null;
  return (
    <div class="table-box" id="ops-refused">
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
