/** What the page and the frame that draws a PDF say to each other. */

export const PDF_PAGES_MOST = 20;

export type PdfDrawn = { kind: "pdf-ready" } | { kind: "pdf-failed" } | { kind: "pdf-drawn"; pages: number; of: number };
