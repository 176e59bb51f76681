/** Another way from here: a message edited or sent again in a new conversation, and files put back. */

import { useState } from "preact/hooks";
import type { FilesChangedItem, FilesRestoredItem, ForkedItem, Item, MessageItem } from "../core/index.ts";
import { copied } from "./clipboard.ts";
import { Dialog } from "./Dialogs.tsx";
import { Icon, type IconName } from "./icons.tsx";
import type { How } from "./BranchDialog.tsx";
import { overlay } from "./overlay.ts";
import { usePage, useStore } from "./page.ts";
import { t } from "./preferences.ts";

/** Below a message of a person. Who only reads may copy it. */
export function MessageActions({ item }: { item: MessageItem }) {
  const page = usePage();
  const ask = (how: How) => (): void => {
    overlay.value = { what: "branch", item, how };
  };
  return (
    <div class="message-actions">
      <CopyVerb text={item.text} />
      {!page.conversation.value.isGuest && (
        <>
          <Verb id="edit" icon="edit" label={t("editMessage")} run={ask("edit")} />
          <Verb id="again" icon="again" label={t("tryAgain")} run={ask("again")} />
        </>
      )}
    </div>
  );
}

/** Below an answer that is finished. What it takes is looked up at the click: a long conversation has many of them. */
export function AnswerActions({ item }: { item: MessageItem }) {
  const page = usePage();
  const again = (): void => {
    const { items } = page.conversation.value.chat;
    const [question] = items.filter(isPersons).filter((one) => one.turn_id === item.turn_id);
    if (question) overlay.value = { what: "branch", item: question, how: "again" };
  };
  const fork = (): void => {
    const { items, is_processing: isBusy, turn_id: now } = page.conversation.value.chat;
    if (isBusy && now === item.turn_id) return page.tell(t("forkLater"));
    const next = items.slice(items.indexOf(item)).find((one) => isPersons(one) && one.turn_id !== item.turn_id);
    page.fork(next?.id).catch((error: unknown) => page.tellWhy(error));
  };
  return (
    <div class="message-actions">
      <CopyVerb text={item.text} />
      {!page.conversation.value.isGuest && item.turn_id !== null && (
        <>
          <Verb id="again" icon="again" label={t("tryAgain")} run={again} />
          <Verb id="fork" icon="branch" label={t("forkHere")} run={fork} />
        </>
      )}
    </div>
  );
}

function isPersons(item: Item): item is MessageItem {
  return item.kind === "message" && item.sender === "user";
}

function CopyVerb({ text }: { text: string }) {
  const page = usePage();
  const copy = async (): Promise<void> => {
    if (await copied(text)) page.tell(t("copied"));
  };
  if (text === "") return null;
  return <Verb id="copy" icon="copy" label={t("copy")} run={() => void copy()} />;
}

interface VerbProps {
  id: string;
  icon: IconName;
  label: string;
  run(): void;
}

function Verb({ id, icon, label, run }: VerbProps) {
  return (
    <button
      type="button"
      class="icon-button"
      data-testid={`message-${id}`}
      aria-label={label}
      title={label}
      onClick={run}
    >
      <Icon name={icon} />
    </button>
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
