/** What is asked before a conversation gets another title, or is deleted. */

import { useState } from "preact/hooks";
import type { SessionSummary } from "../core/index.ts";
import { Dialog } from "./Dialogs.tsx";
import { usePage } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";

export function ConfirmDelete({ row, close }: { row: SessionSummary; close(): void }) {
  const page = usePage();
  const remove = async (): Promise<void> => {
    close();
    try {
      const { receipt } = await page.store.remove(row.session_id);
      if (receipt) page.tell(t("deleted", { processes: receipt.processes, survivors: receipt.survivors }));
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <Dialog title={t("deleteTitle")} close={close}>
      <p>{t("deleteText", { title: clipped(row.title || t("untitled")) })}</p>
      <div class="dialog-verbs">
        <button type="button" class="button" autofocus onClick={close}>
          {t("cancel")}
        </button>
        <button type="button" class="button danger" data-testid="delete-confirm" onClick={() => void remove()}>
          {t("delete")}
        </button>
      </div>
    </Dialog>
  );
}

export function RenameDialog({ row, close }: { row: SessionSummary; close(): void }) {
  const page = usePage();
  const [title, setTitle] = useState(row.title ?? "");
  const rename = async (): Promise<void> => {
    close();
    try {
      await page.store.rename(row.session_id, title.trim());
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <Dialog title={t("rename")} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (title.trim()) void rename();
        }}
      >
        <input
          class="field wide"
          dir="auto"
          autofocus
          maxLength={200}
          aria-label={t("renameLabel")}
          data-testid="rename-field"
          value={title}
          onInput={(event) => setTitle(event.currentTarget.value)}
          onFocus={(event) => event.currentTarget.select()}
        />
        <div class="dialog-verbs">
          <button type="button" class="button" onClick={close}>
            {t("cancel")}
          </button>
          <button type="submit" class="button primary" disabled={!title.trim()}>
            {t("save")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
