import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { piecesOf } from "../core/pieces.ts";
import { isOnPaper } from "./reveal.ts";
import { heightOf, tailOf } from "./sections.ts";
import { slices } from "./slices.ts";

/** What a piece out of sight costs of what its characters would in sight: such pieces are laid out when they are seen. */
export const UNSEEN = 0.25;

interface LaterProps {
  weight: number;
  /** 0: at once. Absent: as soon as there is time. Others wait until those of a lower rank are drawn. */
  rank?: number | undefined;
  /** What is shown until then. */
  meanwhile?: ComponentChildren;
  children: ComponentChildren;
}

/** Draws its children once so many characters are admitted. */
export function Later({ weight, rank, meanwhile = null, children }: LaterProps) {
  const [isIn, setIn] = useState(() => rank === 0 || (rank === undefined && slices.admits(weight)));
  useEffect(() => (isIn ? undefined : slices.later(weight, () => setIn(true), rank)), []);
  return isIn || isOnPaper.value ? <>{children}</> : <>{meanwhile}</>;
}

/** A text as it is, of any length; a short one is nothing but its text. */
export function PlainText({ text }: { text: string }) {
  const pieces = useMemo(() => piecesOf(text), [text]);
  if (pieces.length === 1) return <>{text}</>;
  return (
    <>
      {pieces.map((piece, place) => (
        <Later key={place} weight={piece.length * UNSEEN}>
          <span class="piece">{piece}</span>
        </Later>
      ))}
    </>
  );
}

/** Of a long text that is not read yet, from this character on: as tall as it will be, about, with its last words. */
export function Rest({ text, from = 0, to = text.length }: { text: string; from?: number; to?: number }) {
  return (
    <div class="md-rest" data-drawn={false} style={{ minBlockSize: `${heightOf({ start: from, end: to })}px` }}>
      <div class="md-plain" dir="auto" data-testid="not-read-yet">
        {tailOf(text)}
      </div>
    </div>
  );
}
