/** A diagram as a picture, or its source with what kept it from being drawn. */

import { useEffect, useState } from "preact/hooks";
import type { DiagramLook } from "../core/diagram.ts";
import { clipped } from "../core/pieces.ts";
import { Code, SaveButton } from "./Code.tsx";
import { CopyButton } from "./Copy.tsx";
import "./diagram.css";
import { type Drawing, drawer } from "./drawer.ts";
import { t, theme } from "./preferences.ts";

const REASON_MOST = 300;

/** Mermaid's names for colours → the page's. */
const COLOURS: Record<string, string> = {
  background: "--surface", primaryColor: "--accent-soft", primaryTextColor: "--ink", primaryBorderColor: "--accent-line",
  secondaryColor: "--sunken", tertiaryColor: "--paper", lineColor: "--ink-3", textColor: "--ink", mainBkg: "--accent-soft",
  nodeBorder: "--accent", clusterBkg: "--sunken", clusterBorder: "--line-strong", edgeLabelBackground: "--surface",
  titleColor: "--ink", noteBkgColor: "--warn-soft", noteTextColor: "--ink", noteBorderColor: "--warn-line",
}; // prettier-ignore

function lookOf(name: string): DiagramLook {
  const style = getComputedStyle(document.documentElement);
  const colours = Object.entries(COLOURS).map(([theirs, ours]) => [theirs, style.getPropertyValue(ours).trim()]);
  return { isDark: name === "dark", colours: Object.fromEntries(colours) as Record<string, string> };
}

export function DiagramView({ code }: { code: string }) {
  const [drawing, setDrawing] = useState<Drawing | null>(null);
  const [isSource, setSource] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const shownTheme = theme.value;
  useEffect(() => drawer.draw(code, lookOf(shownTheme), setDrawing), [code, shownTheme, attempt]);
  if (drawing === null) return <Code code={code} language="mermaid" />;
  if (!("svg" in drawing)) {
    const isAgain = "problem" in drawing && drawing.problem !== "large";
    return (
      <>
        <p class="quiet diagram-why" data-testid="diagram-why" dir="auto">
          {wordsOf(drawing)}
          {isAgain && (
            <button type="button" class="link" data-testid="diagram-again" onClick={() => setAttempt(attempt + 1)}>
              {t("retry")}
            </button>
          )}
        </p>
        <Code code={code} language="mermaid" />
      </>
    );
  }
  return (
    <figure class="code diagram" data-testid="diagram">
      <figcaption>
        <span class="code-language">{t("diagram")}</span>
        <button type="button" class="copy" aria-pressed={isSource} data-testid="diagram-source" onClick={() => setSource(!isSource)}>
          {t("diagramSource")}
        </button>
        <SaveButton text={drawing.svg} name="diagram.svg" type="image/svg+xml" />
        <CopyButton text={code} />
      </figcaption>
      {isSource ? (
        <pre tabIndex={0} dir="ltr">
          <code>{code}</code>
        </pre>
      ) : (
        <div class="diagram-box" tabIndex={0} role="group" aria-label={t("diagram")}>
          <img src={`data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing.svg)}`} width={drawing.width} height={drawing.height} alt={t("diagramAlt", { kind: kindOf(code) })} />
        </div>
      )}
    </figure>
  );
}

function wordsOf(drawing: Exclude<Drawing, { svg: string }>): string {
  if ("reason" in drawing) return t("diagramBad", { reason: clipped(drawing.reason.split("\n", 1)[0] ?? "", REASON_MOST) });
  return t(({ slow: "diagramSlow", large: "diagramLarge", missing: "diagramMissing" } as const)[drawing.problem]);
}

/** What a diagram says that it is: its first word. */
function kindOf(code: string): string {
  return /^\s*([A-Za-z][\w-]{0,30})/m.exec(code.replace(/^---[^]*?\n---/, ""))?.[1] ?? "Mermaid";
}
