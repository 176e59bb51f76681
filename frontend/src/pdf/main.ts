/** Draws a PDF: a frame without an origin, whose policy lets it load its own script and nothing else.
 *
 * The page gives it the bytes; it answers with what it has drawn. Nothing of a document is more than pixels here:
 * no link, no form, no script, no attachment. What is heavy runs in a worker, which ends with the frame.
 */

import { AnnotationMode, getDocument, GlobalWorkerOptions, type PDFPageProxy, VerbosityLevel } from "pdfjs-dist/legacy/build/pdf.mjs";
import PdfWorker from "pdfjs-dist/legacy/build/pdf.worker.mjs?worker&inline";
import { type PdfDrawn, PDF_PAGES_MOST } from "../core/pdf.ts";

/** Of one page; a large one is drawn smaller. */
const PIXELS_MOST = 2_000_000;
/** Of one image inside. */
const IMAGE_PIXELS_MOST = 16_000_000;
const POINT = 96 / 72;

function say(what: PdfDrawn): void {
  parent.postMessage(what, "*");
}

async function draw(page: PDFPageProxy): Promise<void> {
  const { width, height } = page.getViewport({ scale: 1 });
  const wished = POINT * Math.min(2, devicePixelRatio || 1);
  const scale = Math.min(wished, Math.sqrt(PIXELS_MOST / Math.max(1, width * height)));
  const viewport = page.getViewport({ scale });
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(viewport.width));
  canvas.height = Math.max(1, Math.floor(viewport.height));
  document.body.append(canvas);
  await page.render({ canvas, viewport, annotationMode: AnnotationMode.ENABLE }).promise;
  page.cleanup();
}

async function show(data: ArrayBuffer): Promise<void> {
  GlobalWorkerOptions.workerPort = new PdfWorker();
  const loading = getDocument({
    data: new Uint8Array(data),
    maxImageSize: IMAGE_PIXELS_MOST,
    verbosity: VerbosityLevel.ERRORS,
    enableXfa: false,
    useWasm: false,
    useWorkerFetch: false,
  });
  loading.onPassword = () => say({ kind: "pdf-failed" });
  const pdf = await loading.promise;
  const count = Math.min(pdf.numPages, PDF_PAGES_MOST);
  for (let number = 1; number <= count; number += 1) {
    await draw(await pdf.getPage(number));
    say({ kind: "pdf-drawn", pages: number, of: pdf.numPages });
  }
}

addEventListener("message", (event) => {
  if (event.source !== parent || !(event.data instanceof ArrayBuffer)) return;
  show(event.data).catch(() => say({ kind: "pdf-failed" }));
});
say({ kind: "pdf-ready" });
