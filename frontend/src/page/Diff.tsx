/** A difference at once, as its lines; its look with numbers, colours and marked words is loaded with the first one. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { plainly } from "./asked.ts";
import { countOf, diffLines } from "./diff.ts";
import { MoreLines } from "./MoreLines.tsx";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";

const LINES_MOST = 400;
const WHOLE_LINES_MOST = 5_000;
const LINE_MOST = 2_000;

interface DiffProps {
  path: string;
  before: string;
  after: string;
}

type DrawnDiff = typeof import("./DiffView.tsx").DiffView;

let loaded: DrawnDiff | null = null;

export function Diff(props: DiffProps) {
  const [state, setState] = useState<"plain" | "loaded" | "missing">(loaded ? "loaded" : "plain");
  useEffect(() => {
    if (loaded) return undefined;
    let isOver = false;
    import("./DiffView.tsx").then(
      ({ DiffView }) => {
        loaded = DiffView;
        if (!isOver) setState("loaded");
      },
      () => !isOver && setState("missing"),
    );
    return () => void (isOver = true);
  }, []);
  const Drawn = loaded;
  if (state === "loaded" && Drawn) return <Drawn {...props} />;
  return (
    <>
      <PlainDiff {...props} />
      {state === "missing" && <p class="quiet">{t("diffMissing")}</p>}
    </>
  );
}

function PlainDiff({ path, before, after }: DiffProps) {
  const [isWhole, setWhole] = useState(false);
  const lines = useMemo(() => diffLines(before, after), [before, after]);
  const most = isWhole ? WHOLE_LINES_MOST : LINES_MOST;
  const more = lines.length - most;
  const { added, removed } = countOf(lines);
  return (
    <figure class="code diff" dir="ltr">
      <figcaption>
        <span class="diff-path">{clipped(plainly(path))}</span>
        <span class="diff-count">
          <span class="diff-plus">+{added}</span> <span class="diff-minus">−{removed}</span>
        </span>
      </figcaption>
      <pre tabIndex={0}>
        {lines.slice(0, most).map((line, place) => (
          <span key={place} class={`diff-line diff-${line.kind}`}>
            <span class="diff-sign" aria-hidden="true">
              {{ added: "+", removed: "−", same: " ", gap: "⋯" }[line.kind]}
            </span>
            {line.kind === "added" && <ins class="bare">{clipped(line.text, LINE_MOST) || " "}</ins>}
            {line.kind === "removed" && <del class="bare">{clipped(line.text, LINE_MOST) || " "}</del>}
            {line.kind === "same" && (clipped(line.text, LINE_MOST) || " ")}
          </span>
        ))}
      </pre>
      {more > 0 && <MoreLines count={more} isWhole={isWhole} show={() => setWhole(true)} />}
    </figure>
  );
}
