/** A PDF, drawn in a frame that has no origin, no cookies and no network: all it gets are the bytes. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type FileTree } from "../core/index.ts";
import { PDF_PAGES_MOST, type PdfDrawn } from "../core/pdf.ts";
import { sizeText, useTree } from "./filewords.ts";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

/** A larger one is only downloaded. */
const BYTES_MOST = 20 * 1024 * 1024;
/** Until the first page is drawn. */
const SECONDS_MOST = 20;

interface PdfProps {
  tree: FileTree;
  path: string;
  name: string;
}

export function Pdf({ size, ...shown }: PdfProps & { size: number }) {
  if (size > BYTES_MOST) return <p class="quiet">{t("pdfTooLarge", { size: sizeText(BYTES_MOST) })}</p>;
  return <PdfFrame {...shown} />;
}

function PdfFrame({ tree, path, name }: PdfProps) {
  const page = usePage();
  useTree(tree);
  const revision = tree.revision(path);
  const frame = useRef<HTMLIFrameElement>(null);
  const [drawn, setDrawn] = useState<{ pages: number; of: number } | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let isOver = false;
    setDrawn(null);
    setError(null);
    const failed = (why: unknown) => !isOver && setError(why instanceof ApiError ? why.message : t("noPreview"));
    const timer = setTimeout(failed, SECONDS_MOST * 1000, null);
    const hear = (event: MessageEvent) => {
      if (event.source === null || event.source !== frame.current?.contentWindow) return;
      const said = event.data as PdfDrawn | null;
      if (said?.kind === "pdf-failed") return void failed(null);
      if (said?.kind === "pdf-ready") {
        page.api.fileBytes(tree.sessionId, path).then((data) => !isOver && frame.current?.contentWindow?.postMessage(data, "*", [data]), failed);
        return;
      }
      if (said?.kind !== "pdf-drawn") return;
      clearTimeout(timer);
      setDrawn({ pages: Number(said.pages), of: Number(said.of) });
    };
    addEventListener("message", hear);
    return () => {
      isOver = true;
      clearTimeout(timer);
      removeEventListener("message", hear);
    };
  }, [page, tree, path, revision]);
  if (error !== null) return <p class="quiet">{error}</p>;
  return (
    <>
      <iframe key={revision} ref={frame} class="file-frame" sandbox="allow-scripts" src="pdf.html" title={name} data-testid="pdf-frame" data-pages={drawn?.pages ?? 0} />
      {drawn === null && <p class="quiet">{t("loading")}</p>}
      {drawn !== null && drawn.pages === PDF_PAGES_MOST && drawn.of > drawn.pages && <p class="quiet">{t("pdfCut", { pages: String(drawn.pages), of: String(drawn.of) })}</p>}
    </>
  );
}
