import type { NodeNumbers } from "../core/index.ts";
import { Heads } from "./Heads.tsx";
import { number, span, w, type Word } from "./words.ts";

const STATES: Record<string, Word> = { starting: "nodeStarting", up: "nodeUp", draining: "nodeDraining", silent: "nodeSilent" };

/** The gateways that share the store, and what to do about one that is not well. */
export function NodeTable({ rows }: { rows: readonly NodeNumbers[] }) {
  return (
    <div class="table-box" id="ops-nodes">
      <table class="ops-table" data-testid="nodes">
        <caption>{w("gateways")}</caption>
        <Heads words={["gateway", "state", "sessions", "workers", "lastBeat", "version", "whatToDo"]} />
        <tbody>
          {rows.map((row) => (
            <tr key={row.name} class={row.state === "silent" ? "is-bad" : ""}>
              <th scope="row" title={row.url}>
                <bdi>{row.name}</bdi> {row.is_this && <small>{w("thisGateway")}</small>}
              </th>
              <td>{w(STATES[row.state] ?? "nodeUp")}</td>
              <td class="number">{number(row.sessions)}</td>
              <td class="number">
                {number(row.workers)}/{number(row.worker_limit)}
              </td>
              <td class="number">{w("ago", { time: span(row.still_seconds) })}</td>
              <td dir="ltr">{row.version}</td>
              <td>
                {row.state === "draining" && w("drainingToDo")}
                {row.state === "silent" && (
                  <>
                    {w("silentToDo")} <code dir="ltr">agent-gateway nodes fence {row.name}</code>
                  </>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** How many there are, and how many of them are silent. */
export function nodeWords(rows: readonly NodeNumbers[]): string {
  const silent = rows.filter((row) => row.state === "silent").length;
  return silent > 0 ? w("nodesSilent", { n: number(rows.length), silent: number(silent) }) : number(rows.length);
}
