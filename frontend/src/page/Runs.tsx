/** The things of a stretch, with runs of finished tool calls told in one line that opens. */

import { cloneElement, type ComponentChildren, type VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Item, Key, ToolCallItem } from "../core/index.ts";
import { Icon } from "./icons.tsx";
import { t } from "./preferences.ts";
import { runsOf } from "./runs.ts";
import { countsOf, type Verb } from "./toolverbs.ts";

interface RunsProps {
  items: readonly Item[];
  /** Everything is to be found: nothing is folded. */
  isWhole: boolean;
  /** What somebody looks for: its run is open. */
  isSought(item: Item): boolean;
  /** What is drawn elsewhere, or shows what nobody has seen yet. */
  isApart(item: Item): boolean;
  draw(item: Item): VNode;
}

const WORDS: Record<Verb | "other", Key> = {
  execute: "runRan",
  read: "runRead",
  edit: "runEdited",
  create: "runEdited",
  delete: "runOther",
  search: "runSearched",
  fetch: "runFetched",
  other: "runOther",
};

export function Runs({ items, isWhole, isSought, isApart, draw }: RunsProps) {
  /** Of each run, by its first call: whether the reader opened it. */
  const [chosen, setChosen] = useState<ReadonlyMap<string, boolean>>(new Map());
  /** Calls that the reader opened: they do not fold away while they are read. */
  const touched = useRef(new Set<string>());
  return runsOf(items, isApart).map((piece): ComponentChildren => {
    if ("item" in piece) return cloneElement(draw(piece.item), { onClickCapture: () => touched.current.add(piece.item.id) });
    const { run, calls } = piece;
    const id = calls[0]?.id ?? "";
    const isOpen = isWhole || run.some(isSought) || (chosen.get(id) ?? calls.some((call) => touched.current.has(call.id)));
    return [
      <RunLine key={`run ${id}`} calls={calls} isOpen={isOpen} toggle={() => setChosen(new Map([...chosen, [id, !isOpen]]))} />,
      ...(isOpen ? run.map(draw) : []),
    ];
  });
}

function RunLine({ calls, isOpen, toggle }: { calls: readonly ToolCallItem[]; isOpen: boolean; toggle(): void }) {
  const { verbs, failed } = countsOf(calls);
  return (
    <div class="item item-run">
      <button type="button" class="run" data-testid="tool-run" aria-expanded={isOpen} onClick={toggle}>
        <Icon name="list" class="tool-icon" />
        <span class="run-words">
          {t("runSteps", { n: calls.length })}
          <span class="quiet">{verbs.map(([verb, n]) => t(WORDS[verb], { n })).join(" · ")}</span>
        </span>
        {failed > 0 && <span class="status status-failed">{t("runFailed", { n: failed })}</span>}
        <Icon name="chevron" class="tool-chevron" />
      </button>
    </div>
  );
}
