/** A diagram; what draws it is loaded with the first one, and until then its source is shown. */

import { useEffect, useState } from "preact/hooks";
import { Code } from "./Code.tsx";
import { t } from "./preferences.ts";

type DrawnDiagram = typeof import("./DiagramView.tsx").DiagramView;

export function Diagram({ code }: { code: string }) {
  const [view, setView] = useState<{ Drawn: DrawnDiagram } | "missing" | null>(null);
  useEffect(() => {
    let isOver = false;
    import("./DiagramView.tsx").then(
      ({ DiagramView }) => !isOver && setView({ Drawn: DiagramView }),
      () => !isOver && setView("missing"),
    );
    return () => void (isOver = true);
  }, []);
  if (view !== null && view !== "missing") return <view.Drawn code={code} />;
  return (
    <>
      {view === "missing" && <p class="quiet">{t("diagramMissing")}</p>}
      <Code code={code} language="mermaid" />
    </>
  );
}
