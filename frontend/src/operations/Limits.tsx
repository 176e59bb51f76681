import type { LimitUse } from "../core/index.ts";
import { dollars } from "../page/index.ts";
import { number, size, w } from "./words.ts";

/** Each limit with how much of it is used; one that is reached says so in words, too. */
export function Limits({ rows }: { rows: readonly LimitUse[] }) {
  if (rows.length === 0) return <span class="quiet">{w("noLimits")}</span>;
  return (
    <ul class="limits">
      {rows.map((row) => {
        const isReached = row.used >= row.allowed;
        const words = w("limitUse", { name: row.name, used: figure(row, row.used), allowed: figure(row, row.allowed) });
        return (
          <li key={row.name} class={isReached ? "is-reached" : ""}>
            <meter
              min={0}
              max={row.allowed}
              value={Math.min(row.used, row.allowed)}
              high={row.allowed * 0.8}
              aria-label={words}
            />{" "}
            <span>
              {words}
              {isReached && <b> · {w("reached")}</b>}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

function figure(row: LimitUse, value: number): string {
  if (row.name.startsWith("cost")) return dollars(value);
  return row.name === "stored_bytes" ? size(value) : number(value);
}
