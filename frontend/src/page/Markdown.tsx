import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { MarkdownDocument } from "../core/markdown/index.ts";
import { Code } from "./Code.tsx";
import { Diagram } from "./Diagram.tsx";
import { useFormulas } from "./formulas.ts";
import { type Block, newDocument } from "./markdown.ts";
import { toNote } from "./notes.ts";
import { PlainText, Rest } from "./Pieces.tsx";
import { t } from "./preferences.ts";
import { isOnPaper, revealed, wholeId } from "./reveal.ts";
import { Section } from "./Section.tsx";
import { REST_LEAST, type SectionOfText, sectionsOf, SHORT } from "./sections.ts";
import { LAST, slices } from "./slices.ts";

/** A growing answer is drawn this often; long ones less often, so that drawing takes a fifth of the time at most. */
const DRAW_EVERY_MS = 60;

/** Reading a character costs so much of what drawing one does. */
const READING = 0.05;

/** Once its turn has come, reading goes on for so long, however busy the machine is. */
const READ_MS = 12;

/** What was read meanwhile comes to the page so often: the page as a whole is not drawn for each piece that is read. */
const SHOW_EVERY_MS = 250;

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
  const sections = isMadeAnew ? kept.current : sectionsOf(made.spans, kept.current, made.unchanged());
  kept.current = sections;
  const views = useRef(new WeakMap<SectionOfText, View>());
  const isWhole = wholeId.value !== null;
  const place = revealed.value;
  const at = place !== null && place.kind === "message" && place.id === id ? place.at : -1;
  const isAlone = sections.length === 1 && made.isDone;
  const read = made.spans.at(-1)?.end ?? 0;
  const isRest = !made.isDone && !isMadeAnew && shown.length - read >= REST_LEAST;
  const hadRest = useRef(false);
  hadRest.current = (hadRest.current || isRest) && !isStreaming;
  const drawSection = (section: SectionOfText, place: number): VNode => {
    const isLast = place === sections.length - 1;
    const endsIn = isLast && hadRest.current && made.isDone ? shown : null;
    const isHeld = isWhole || (isStreaming && isLast) || (section.start <= at && at < section.end) || endsIn !== null;
    const known = views.current.get(section);
    if (known?.isAlone === isAlone && known.isHeld === isHeld) return known.drawn;
    const drawn = (
      <Section
        key={place}
        number={place}
        section={section}
        blocks={made.blocks}
        spans={made.spans}
        isAlone={isAlone}
        isHeld={isHeld}
        elements={elements.current}
        endsIn={endsIn}
        draw={(block, of) => (
          <BlockView key={of} block={block} isGrowing={isStreaming && of === made.blocks.length - 1} />
        )}
        plain={() => (
          <BlockView block={{ kind: "plain", text: shown.slice(section.start, section.end) }} isGrowing={false} />
        )}
      />
    );
    views.current.set(section, { isAlone, isHeld, drawn });
    return drawn;
  };
  return (
    <div class="md" aria-busy={!made.isDone} onClick={toNote}>
      {sections.map(drawSection)}
      {isRest && <Rest text={shown} from={read} />}
    </div>
  );
}

/** A section as it was drawn: as long as it is the same, Preact does not look at it again. */
interface View {
  isAlone: boolean;
  isHeld: boolean;
  drawn: VNode;
}

/** The blocks of the text that are read by now; the component draws again as more of them are. */
function useRead(text: string, isWhole: boolean, cost: { current: number }): MarkdownDocument<Block> {
  const [made] = useState(newDocument);
  const [round, setRound] = useState(0);
  const before = performance.now();
  made.set(text, isWhole);
  const isFree = isOnPaper.value || text.length <= SHORT;
  made.advance((weight) => isFree || slices.admits(weight * READING));
  const last = made.blocks.at(-1);
  if (!isWhole && last?.kind === "html") void last.html; // made here, so that it is counted
  cost.current = performance.now() - before;
  useEffect(() => {
    if (made.isDone) return undefined;
    const drawn = performance.now();
    const ask = (rank: number): (() => void) => slices.later(made.nextWeight * READING, read, rank);
    const read = (): void => {
      const isFirst = made.spans.length === 0;
      const began = performance.now();
      made.advance(() => performance.now() - began < READ_MS);
      if (made.isDone || isFirst || began - drawn > SHOW_EVERY_MS) setRound(round + 1);
      else cancel = ask(LAST);
    };
    let cancel = ask(made.spans.length === 0 ? 0 : LAST);
    return () => cancel();
  }, [text, isWhole, round]);
  return made;
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
