import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { CopyButton } from "./Copy.tsx";
import { highlighter } from "./highlighter.ts";
import { type Block, newDocument, sanitised } from "./markdown.ts";
import { Later, PlainText, UNSEEN } from "./Pieces.tsx";
import { clipped, piecesOf } from "../core/pieces.ts";
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
    <div class="md" aria-busy={!isDone}>
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
  if (block.kind === "code") return <Code code={block.code} language={block.language} isGrowing={isGrowing} />;
  if (block.kind === "plain") {
    return (
      <div class="md-plain" dir="auto">
        <PlainText text={block.text} />
      </div>
    );
  }
  const style = block.isHeading ? "md-block md-heading" : "md-block";
  return <div class={style} dir="auto" dangerouslySetInnerHTML={{ __html: block.html }} />;
}

interface CodeProps {
  code: string;
  language: string;
  isGrowing?: boolean;
}

export function Code({ code, language, isGrowing = false }: CodeProps) {
  const [html, setHtml] = useState<string | null>(null);
  useEffect(() => {
    setHtml(null);
    if (isGrowing || !language) return undefined;
    return highlighter.colour(code, language, (made) => setHtml(made === null ? null : sanitisedCode(made)));
  }, [code, language, isGrowing]);
  return (
    <figure class="code" dir="ltr">
      <figcaption>
        <span>{clipped(language || "text", 40)}</span>
        <CopyButton text={code} />
      </figcaption>
      <pre tabIndex={0}>
        {html === null || isGrowing ? <Uncoloured code={code} /> : <code dangerouslySetInnerHTML={{ __html: html }} />}
      </pre>
    </figure>
  );
}

function Uncoloured({ code }: { code: string }) {
  const pieces = useMemo(() => piecesOf(code), [code]);
  if (pieces.length === 1) return <code>{code}</code>;
  return (
    <>
      {pieces.map((piece, place) => (
        <Later key={place} weight={piece.length * UNSEEN}>
          <code class="piece">{piece}</code>
        </Later>
      ))}
    </>
  );
}

/** highlight.js escapes by itself; this holds it to spans of its own classes. */
function sanitisedCode(html: string): string {
  return /<(?!\/?span\b)/i.test(html) ? sanitised(html) : html;
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
