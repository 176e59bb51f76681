/** The agent's plan as a checklist; loaded with the first one. */

import "./plan.css";
import type { PlanItem } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { Icon } from "./icons.tsx";
import { t } from "./preferences.ts";

/** Of a list that an agent made, so many are drawn; the rest is in the export. */
const ENTRIES_MOST = 100;
const WORDS_MOST = 2_000;

function More({ count }: { count: number }) {
  return count > 0 ? <li class="quiet">{t("andMore", { n: count })}</li> : null;
}

export function PlanView({ item }: { item: PlanItem }) {
  const done = item.entries.filter((entry) => entry.status === "completed").length;
  return (
    <section class="plan" data-testid="plan" aria-label={t("plan")}>
      <header>
        <Icon name="list" />
        <h2>{t("plan")}</h2>
        <span class="quiet">{t("planProgress", { done, all: item.entries.length })}</span>
      </header>
      <ol>
        {item.entries.slice(0, ENTRIES_MOST).map((entry, place) => (
          <li key={place} class={`plan-${entry.status ?? "pending"}`} dir="auto">
            <span class="plan-mark" aria-hidden="true">
              {entry.status === "completed" && <Icon name="check" />}
            </span>
            <span class="sr-only">{planWord(entry.status)}: </span>
            <span>{clipped(entry.content, WORDS_MOST)}</span>
          </li>
        ))}
        <More count={item.entries.length - ENTRIES_MOST} />
      </ol>
    </section>
  );
}

function planWord(status: string | undefined): string {
  return t(status === "completed" ? "planDone" : status === "in_progress" ? "planNow" : "planOpen");
}
