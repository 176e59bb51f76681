import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { CopyButton } from "./Copy.tsx";
import { type Block, blocksOf, sanitised } from "./markdown.ts";

/** A growing answer is drawn this often; long ones less often, so that drawing takes a fifth of the time at most. */
const DRAW_EVERY_MS = 60;

export function Markdown({ text, isStreaming }: { text: string; isStreaming: boolean }) {
  const cost = useRef(0);
  const shown = useThrottled(text, isStreaming, cost);
  const blocks = useMemo(() => {
    const before = performance.now();
    const made = blocksOf(shown);
    cost.current = performance.now() - before;
    return made;
  }, [shown]);
  return (
    <div class="md">
      {blocks.map((block, place) => (
        <BlockView key={block.key} block={block} isGrowing={isStreaming && place === blocks.length - 1} />
      ))}
    </div>
  );
}

function BlockView({ block, isGrowing }: { block: Block; isGrowing: boolean }) {
  if (block.kind === "code") return <Code code={block.code} language={block.language} isGrowing={isGrowing} />;
  return <div class="md-block" dir="auto" dangerouslySetInnerHTML={{ __html: block.html }} />;
}

interface CodeProps {
  code: string;
  language: string;
  isGrowing?: boolean;
}

export function Code({ code, language, isGrowing = false }: CodeProps) {
  const [html, setHtml] = useState<string | null>(null);
  useEffect(() => {
    if (isGrowing || !language) return setHtml(null);
    let isCurrent = true;
    void import("./highlight.ts").then(({ highlighted }) => {
      const coloured = highlighted(code, language);
      if (isCurrent) setHtml(coloured === null ? null : sanitisedCode(coloured));
    });
    return () => {
      isCurrent = false;
    };
  }, [code, language, isGrowing]);
  return (
    <figure class="code" dir="ltr">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={code} />
      </figcaption>
      <pre tabIndex={0}>
        {html === null || isGrowing ? <code>{code}</code> : <code dangerouslySetInnerHTML={{ __html: html }} />}
      </pre>
    </figure>
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
