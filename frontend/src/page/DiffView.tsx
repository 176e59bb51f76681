/** A difference with line numbers, colours and marked words; side by side where there is room, or if it is asked for. */

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { escaped } from "../core/markdown/index.ts";
import { clipped } from "../core/pieces.ts";
import { plainly } from "./asked.ts";
import { sanitisedCode } from "./Code.tsx";
import "./diff.css";
import { type DiffRow, type DiffSide, htmlLines, marked, rowsOf } from "./diffrows.ts";
import { languageOfFile } from "./filelanguages.ts";
import { highlighter } from "./highlighter.ts";
import { Icon } from "./icons.tsx";
import { MoreLines } from "./MoreLines.tsx";
import { t } from "./preferences.ts";

const ROWS_MOST = 200;
const WHOLE_ROWS_MOST = 5_000;
const LINE_MOST = 2_000;
/** From this width on two columns are readable. */
const WIDE_PX = 880;
const POSSIBLE_PX = 560;

/** What the reader chose, for all differences; null: by their width. */
const choice = signal<boolean | null>(null);

interface DiffViewProps {
  path: string;
  before: string;
  after: string;
}

type ColouredLines = readonly string[] | null;

export function DiffView({ path, before, after }: DiffViewProps) {
  const [isWhole, setWhole] = useState(false);
  const rows = useMemo(() => rowsOf(before, after), [before, after]);
  const { added, removed } = useMemo(() => countsIn(rows), [rows]);
  const box = useRef<HTMLElement>(null);
  const width = useWidth(box);
  const language = languageOfFile(path);
  const [left, right] = [useColours(before, language), useColours(after, language)];
  const isSide = width >= POSSIBLE_PX && (choice.value ?? width >= WIDE_PX);
  const most = isWhole ? WHOLE_ROWS_MOST : ROWS_MOST;
  const more = rows.length - most;
  const shown = rows.slice(0, most);
  return (
    <figure class="code diff" dir="ltr" ref={box} data-testid="diff" data-side={isSide}>
      <figcaption>
        <span class="diff-path">{clipped(plainly(path))}</span>
        {width >= POSSIBLE_PX && (
          <button type="button" class="copy" data-testid="diff-side" aria-pressed={isSide} aria-label={t("sideBySide")} title={t("sideBySide")} onClick={() => (choice.value = !isSide)}>
            <Icon name="columns" />
          </button>
        )}
        <span class="diff-count">
          <span class="diff-plus">+{added}</span> <span class="diff-minus">−{removed}</span>
        </span>
      </figcaption>
      <div class={isSide ? "diff-rows is-side" : "diff-rows"} tabIndex={0} role="group" aria-label={clipped(plainly(path))}>
        {isSide
          ? shown.map((row, place) => <SideRow key={place} row={row} left={left} right={right} />)
          : unified(shown).map((row, place) => <UnifiedRow key={place} row={row} left={left} right={right} />)}
      </div>
      {more > 0 && <MoreLines count={more} isWhole={isWhole} show={() => setWhole(true)} />}
    </figure>
  );
}

function countsIn(rows: readonly DiffRow[]): { added: number; removed: number } {
  let [added, removed] = [0, 0];
  for (const row of rows) {
    if (row.kind !== "changed") continue;
    added += row.right ? 1 : 0;
    removed += row.left ? 1 : 0;
  }
  return { added, removed };
}

/** In one column what is removed stands above what is added. */
function unified(rows: readonly DiffRow[]): DiffRow[] {
  const made: DiffRow[] = [];
  let added: DiffRow[] = [];
  for (const row of rows) {
    if (row.kind !== "changed") {
      made.push(...added, row);
      added = [];
      continue;
    }
    if (row.left) made.push({ ...row, right: null });
    if (row.right) added.push({ ...row, left: null });
  }
  return [...made, ...added];
}

interface RowProps {
  row: DiffRow;
  left: ColouredLines;
  right: ColouredLines;
}

function UnifiedRow({ row, left, right }: RowProps) {
  if (row.kind === "gap") return <Gap />;
  const isAdded = row.kind === "changed" && row.left === null;
  const kind = row.kind === "same" ? "same" : isAdded ? "added" : "removed";
  return (
    <div class={`diff-row diff-${kind}`}>
      <span class="diff-no" aria-hidden="true">
        {row.left?.number}
      </span>
      <span class="diff-no" aria-hidden="true">
        {row.right?.number}
      </span>
      <CodeLine side={isAdded ? row.right : row.left} kind={kind} colours={isAdded ? right : left} />
    </div>
  );
}

function SideRow({ row, left, right }: RowProps) {
  if (row.kind === "gap") return <Gap />;
  const kinds = row.kind === "same" ? (["same", "same"] as const) : (["removed", "added"] as const);
  return (
    <div class="diff-row">
      <Half side={row.left} kind={kinds[0]} colours={left} />
      <Half side={row.right} kind={kinds[1]} colours={right} />
    </div>
  );
}

function Gap() {
  return (
    <div class="diff-row diff-gap" aria-hidden="true">
      ⋯
    </div>
  );
}

type ChangeKind = "same" | "added" | "removed";

function Half({ side, kind, colours }: { side: DiffSide | null; kind: ChangeKind; colours: ColouredLines }) {
  return (
    <div class={side === null ? "diff-half diff-none" : `diff-half diff-${kind}`}>
      <span class="diff-no" aria-hidden="true">
        {side?.number}
      </span>
      <CodeLine side={side} kind={kind} colours={colours} />
    </div>
  );
}

const SIGNS = { added: "+", removed: "−", same: " " };

function CodeLine({ side, kind, colours }: { side: DiffSide | null; kind: ChangeKind; colours: ColouredLines }) {
  if (side === null) return null;
  const text = clipped(side.text, LINE_MOST);
  const plain = text === side.text ? (colours?.[side.number - 1] ?? escaped(text)) : escaped(text);
  const html = { __html: marked(plain, side.marks) || " " };
  return (
    <>
      <span class="diff-sign" aria-hidden="true">
        {SIGNS[kind]}
      </span>
      {kind === "added" && <ins class="bare diff-text" dangerouslySetInnerHTML={html} />}
      {kind === "removed" && <del class="bare diff-text" dangerouslySetInnerHTML={html} />}
      {kind === "same" && <span class="diff-text" dangerouslySetInnerHTML={html} />}
    </>
  );
}

/** The lines of a text with colours, or null while there are none. */
function useColours(text: string, language: string): ColouredLines {
  const [lines, setLines] = useState<ColouredLines>(null);
  useEffect(() => {
    setLines(null);
    if (language === "" || text === "") return undefined;
    return highlighter.colour(text, language, (html) => html !== null && setLines(htmlLines(sanitisedCode(html))));
  }, [text, language]);
  return lines;
}

function useWidth(box: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!box.current || typeof ResizeObserver === "undefined") return undefined;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.round(entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return width;
}
