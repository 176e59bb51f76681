/** Another way from here: a message edited or sent again in a new conversation, and files put back. */

import { useState } from "preact/hooks";
import type { FilesChangedItem, FilesRestoredItem, ForkedItem, MessageItem } from "../core/index.ts";
import { ApiError, wordsOf } from "../core/index.ts";
import { Dialog } from "./Dialogs.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { usePage, useStore } from "./page.ts";
import { PlainText } from "./Pieces.tsx";
import { language, t } from "./preferences.ts";

type How = "edit" | "again";

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

/** It stays open, with what was written, until the new conversation is there. */
function BranchDialog({ item, how, close }: { item: MessageItem; how: How; close(): void }) {
  const page = usePage();
  const store = useStore();
  const current = page.conversation.value.chat.agent ?? "";
  const [text, setText] = useState(item.text);
  const [agent, setAgent] = useState(current);
  const [error, setError] = useState("");
  const [isSending, setSending] = useState(false);
  const hasContent = text.trim() !== "" || item.attachments !== undefined;
  const send = async (): Promise<void> => {
    setSending(true);
    setError("");
    try {
      await page.branch(item, text, agent === current ? undefined : agent);
      close();
    } catch (thrown) {
      setError(thrown instanceof ApiError ? wordsOf(thrown, language.value) : String(thrown));
      setSending(false);
    }
  };
  return (
    <Dialog title={t("branchTitle")} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (hasContent && !isSending) void send();
        }}
      >
        <p>{t("forkText")}</p>
        {how === "edit" ? (
          <textarea
            class="field wide branch-text"
            dir="auto"
            autofocus
            rows={5}
            aria-label={t("forkMessage")}
            data-testid="branch-text"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        ) : (
          <blockquote class="branch-quote" dir="auto">
            <PlainText text={text} />
          </blockquote>
        )}
        {store.agents.length > 1 && (
          <label class="branch-agent">
            <span>{t("agent")}</span>
            <select
              class="field"
              data-testid="branch-agent"
              value={agent}
              onChange={(event) => setAgent(event.currentTarget.value)}
            >
              {store.agents.map((one) => (
                <option key={one.name} value={one.name}>
                  {one.title}
                </option>
              ))}
            </select>
          </label>
        )}
        {error && (
          <p class="notice notice-error" role="alert" dir="auto">
            <Icon name="warn" />
            <span>{error}</span>
          </p>
        )}
        <div class="dialog-verbs">
          <button type="button" class="button" onClick={close}>
            {t("cancel")}
          </button>
          <button
            type="submit"
            class="button primary"
            data-testid="branch-send"
            autofocus={how === "again"}
            disabled={!hasContent || isSending}
          >
            {t("branchSend")}
          </button>
        </div>
      </form>
    </Dialog>
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
