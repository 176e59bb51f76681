import type { SessionSummary } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import type { Page } from "./page.ts";
import { t } from "./preferences.ts";

/** Saves something as a file of this name. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Saves a conversation as a file with its title for a name. */
export async function saveConversation(page: Page, row: SessionSummary, format: "markdown" | "jsonl"): Promise<void> {
  const name = fileName(clipped(row.title || t("untitled")));
  download(await page.api.export(row.session_id, format), `${name}.${format === "markdown" ? "md" : "jsonl"}`);
}

function fileName(title: string): string {
  return (
    title
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-|-$/g, "")
      .slice(0, 60) || "conversation"
  );
}
