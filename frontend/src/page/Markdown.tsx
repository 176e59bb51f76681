import { useEffect, useRef, useState } from "preact/hooks";
import { Code } from "./Code.tsx";
import { Diagram } from "./Diagram.tsx";
import { useFormulas } from "./formulas.ts";
import { type Block, newDocument } from "./markdown.ts";
import { toNote } from "./notes.ts";
import { PlainText } from "./Pieces.tsx";
import { t } from "./preferences.ts";
import { slices } from "./slices.ts";

/** A growing answer is drawn this often; long ones less often, so that drawing takes a fifth of the time at most. */
const DRAW_EVERY_MS = 60;

/** A block weighs its characters and a little for its box. */
const BOX_WEIGHT = 200;

export function Markdown({ text, isStreaming }: { text: string; isStreaming: boolean }) {
  const cost = useRef(0);
  const shown = useThrottled(text, isStreaming, cost);
  const { blocks, isDone } = useBlocks(shown, !isStreaming, cost);
  return (
    <div class="md" aria-busy={!isDone} onClick={toNote}>
      {blocks.map((block, place) => (
        <BlockView key={place} block={block} isGrowing={isStreaming && place === blocks.length - 1} />
      ))}
    </div>
  );
}

/** The blocks that may be drawn by now; the component draws again as more of them may. */
function useBlocks(text: string, isWhole: boolean, cost: { current: number }): { blocks: Block[]; isDone: boolean } {
  const [made] = useState(newDocument);
  const [round, setRound] = useState(0);
  /** True if the next block has waited for its turn and may be drawn. */
  const isPaid = useRef(false);
  const before = performance.now();
  made.set(text, isWhole);
  made.advance((weight) => {
    if (!isPaid.current) return slices.admits(weight + BOX_WEIGHT);
    isPaid.current = false;
    return true;
  });
  cost.current = performance.now() - before;
  useEffect(() => {
    if (made.isDone) return undefined;
    return slices.later(made.nextWeight + BOX_WEIGHT, () => {
      isPaid.current = true;
      setRound(round + 1);
    });
  }, [text, isWhole, round]);
  return { blocks: made.blocks, isDone: made.isDone };
}

function BlockView({ block, isGrowing }: { block: Block; isGrowing: boolean }) {
  if (block.kind === "code") {
    if (block.language === "mermaid" && !isGrowing) return <Diagram code={block.code} />;
    return <Code code={block.code} language={block.language} isGrowing={isGrowing} />;
  }
  if (block.kind === "plain") {
    return (
      <div class="md-plain" dir="auto">
        <PlainText text={block.text} />
      </div>
    );
  }
  return <HtmlBlock html={block.html} isHeading={block.isHeading} />;
}

function HtmlBlock({ html, isHeading }: { html: string; isHeading: boolean }) {
  const shown = withWideTables(useFormulas(html));
  return <div class={isHeading ? "md-block md-heading" : "md-block"} dir="auto" dangerouslySetInnerHTML={{ __html: shown }} />;
}

/** A table scrolls inside itself, from the keyboard too. */
function withWideTables(html: string): string {
  return html.replaceAll('<div class="wide">', `<div class="wide" tabindex="0" role="group" aria-label="${t("table")}">`);
}

function useThrottled(text: string, isStreaming: boolean, cost: { current: number }): string {
  const [shown, setShown] = useState(text);
  const latest = useRef(text);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  latest.current = text;
  useEffect(() => {
    if (!isStreaming || timer.current !== null) return;
    timer.current = setTimeout(
      () => {
        timer.current = null;
        setShown(latest.current);
      },
      Math.max(DRAW_EVERY_MS, cost.current * 4),
    );
  }, [text, isStreaming]);
  useEffect(
    () => () => {
      if (timer.current !== null) clearTimeout(timer.current);
    },
    [],
  );
  return isStreaming ? shown : text;
}
