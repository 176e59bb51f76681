import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { CopyButton } from "./Copy.tsx";
import { highlighter } from "./highlighter.ts";
import type { MarkdownDocument } from "../core/markdown/index.ts";
import { type Block, newDocument, sanitised } from "./markdown.ts";
import { isOnPaper, revealed, wholeId } from "./reveal.ts";
import { Section } from "./Section.tsx";
import { type SectionOfText, sectionsOf, SHORT } from "./sections.ts";
import { Later, PlainText, UNSEEN } from "./Pieces.tsx";
import { clipped, piecesOf } from "../core/pieces.ts";
import { slices } from "./slices.ts";

/** A growing answer is drawn this often; long ones less often, so that drawing takes a fifth of the time at most. */
const DRAW_EVERY_MS = 60;

/** Reading a character costs so much of what drawing one does. */
const READING = 0.05;

/** Once its turn has come, reading goes on for so long, however busy the machine is. */
const READ_MS = 8;

interface MarkdownProps {
  text: string;
  isStreaming: boolean;
  /** Of the message, so that a place in it can be shown. */
  id?: string;
}

export function Markdown({ text, isStreaming, id }: MarkdownProps) {
  const cost = useRef(0);
  const shown = useThrottled(text, isStreaming, cost);
  const made = useRead(shown, !isStreaming, cost);
  const elements = useRef(new Map<number, number>());
  const kept = useRef<SectionOfText[]>([]);
  // What an earlier text had is shown until it is made anew.
  const isMadeAnew = made.blocks.length > made.spans.length && kept.current.length > 0;
  const sections = isMadeAnew ? kept.current : sectionsOf(made.spans);
  kept.current = sections;
  const isWhole = wholeId.value !== null;
  const place = revealed.value;
  const at = place !== null && place.kind === "message" && place.id === id ? place.at : -1;
  return (
    <div class="md" aria-busy={!made.isDone}>
      {sections.map((section, place) => (
        <Section
          key={place}
          number={place}
          section={section}
          blocks={made.blocks}
          spans={made.spans}
          isAlone={sections.length === 1 && made.isDone}
          isHeld={isWhole || (isStreaming && place === sections.length - 1) || (section.start <= at && at < section.end)}
          elements={elements.current}
          draw={(block, of) => (
            <BlockView key={of} block={block} isGrowing={isStreaming && of === made.blocks.length - 1} />
          )}
          plain={() => (
            <BlockView block={{ kind: "plain", text: shown.slice(section.start, section.end) }} isGrowing={false} />
          )}
        />
      ))}
    </div>
  );
}

/** The blocks of the text that are read by now; the component draws again as more of them are. */
function useRead(text: string, isWhole: boolean, cost: { current: number }): MarkdownDocument<Block> {
  const [made] = useState(newDocument);
  const [round, setRound] = useState(0);
  const hasTurn = useRef(false);
  const before = performance.now();
  const until = hasTurn.current ? before + READ_MS : before;
  hasTurn.current = false;
  made.set(text, isWhole);
  const isFree = isOnPaper.value || text.length <= SHORT;
  made.advance((weight) => isFree || performance.now() < until || slices.admits(weight * READING));
  const last = made.blocks.at(-1);
  if (!isWhole && last?.kind === "html") void last.html; // made here, so that it is counted
  cost.current = performance.now() - before;
  useEffect(() => {
    if (made.isDone) return undefined;
    return slices.later(made.nextWeight * READING, () => {
      hasTurn.current = true;
      setRound(round + 1);
    });
  }, [text, isWhole, round]);
  return made;
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
