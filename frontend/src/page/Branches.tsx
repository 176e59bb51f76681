/** Another way from here: a message edited or sent again in a new conversation, and files put back. */

import { useState } from "preact/hooks";
import type { FilesChangedItem, FilesRestoredItem, ForkedItem, MessageItem } from "../core/index.ts";
import { Dialog } from "./Dialogs.tsx";
import { Icon, type IconName } from "./icons.tsx";
import type { How } from "./BranchDialog.tsx";
import { lazily } from "./lazy.tsx";
import { usePage, useStore } from "./page.ts";
import { t } from "./preferences.ts";

const BranchDialog = lazily(() => import("./BranchDialog.tsx").then((loaded) => loaded.BranchDialog));

/** Below a message of the user's. Who only reads gets none. */
export function MessageActions({ item }: { item: MessageItem }) {
  const page = usePage();
  const [how, setHow] = useState<How | null>(null);
  if (page.conversation.value.isGuest) return null;
  const action = (what: How, icon: IconName, label: string) => (
    <button
      type="button"
      class="icon-button"
      data-testid={`message-${what}`}
      aria-label={label}
      title={label}
      onClick={() => setHow(what)}
    >
      <Icon name={icon} />
    </button>
  );
  return (
    <div class="message-actions">
      {action("edit", "edit", t("editMessage"))}
      {action("again", "again", t("tryAgain"))}
      {how && <BranchDialog item={item} how={how} close={() => setHow(null)} />}
    </div>
  );
}

export function FilesChangedView({ item }: { item: FilesChangedItem }) {
  const n = item.added + item.changed + item.removed;
  return (
    <p class="files-line" data-testid="files-changed">
      <Icon name="edit" />
      <span>{t("filesChanged", { n })}</span>
      <UndoButton atSeq={item.turn - 1} />
    </p>
  );
}

export function FilesRestoredView({ item }: { item: FilesRestoredItem }) {
  return (
    <p class="files-line" data-testid="files-restored">
      <Icon name="undo" />
      <span>
        {t("filesRestored", { n: item.files })}
        {item.failed > 0 && ` · ${t("filesFailed", { n: item.failed })}`}
      </span>
      <UndoButton atSeq={item.seq - 1} />
    </p>
  );
}

export function ForkedView({ item }: { item: ForkedItem }) {
  const page = usePage();
  const store = useStore();
  const isThere = store.sessions.some((row) => row.session_id === item.parent);
  return (
    <p class="files-line" data-testid="forked">
      <Icon name="branch" />
      <span>{t("branchedFrom")}</span>
      {isThere && !page.conversation.value.isGuest && (
        <button type="button" class="link" onClick={() => store.select(item.parent)}>
          {t("branchedOpen")}
        </button>
      )}
    </p>
  );
}

function UndoButton({ atSeq }: { atSeq: number }) {
  const page = usePage();
  const [isAsking, setAsking] = useState(false);
  if (page.conversation.value.isGuest) return null;
  const close = (): void => setAsking(false);
  const restore = async (): Promise<void> => {
    close();
    try {
      const { files, failed } = await page.api.restoreFiles(page.conversation.value.sessionId, atSeq);
      const left = failed.length > 0 ? ` · ${t("filesFailed", { n: failed.length })}` : "";
      page.tell(t("filesRestored", { n: files }) + left);
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <>
      <button type="button" class="link" data-testid="undo-files" onClick={() => setAsking(true)}>
        {t("undo")}
      </button>
      {isAsking && (
        <Dialog title={t("undoTitle")} close={close}>
          <p>{t("undoText")}</p>
          <div class="dialog-verbs">
            <button type="button" class="button" autofocus onClick={close}>
              {t("cancel")}
            </button>
            <button type="button" class="button primary" data-testid="undo-confirm" onClick={() => void restore()}>
              {t("undoConfirm")}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
