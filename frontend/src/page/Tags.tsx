/** The tags of a conversation, to be changed. */

import { useState } from "preact/hooks";
import type { SessionSummary } from "../core/index.ts";
import { Dialog } from "./Dialogs.tsx";
import { f } from "./find-words.ts";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

export function TagsDialog({ row, close }: { row: SessionSummary; close(): void }) {
  const page = usePage();
  const [text, setText] = useState((row.tags ?? []).join(", "));
  const save = async (): Promise<void> => {
    close();
    try {
      await page.store.label(row.session_id, { tags: text.split(/[,،、]/).map((tag) => tag.trim()) });
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <Dialog title={f("tagsTitle")} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <p id="tags-about">{f("tagsAbout")}</p>
        <input
          class="field wide"
          dir="auto"
          autofocus
          maxLength={800}
          aria-label={f("tagsTitle")}
          aria-describedby="tags-about"
          data-testid="tags-field"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <div class="dialog-verbs">
          <button type="button" class="button" onClick={close}>
            {t("cancel")}
          </button>
          <button type="submit" class="button primary" data-testid="tags-save">
            {t("save")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
