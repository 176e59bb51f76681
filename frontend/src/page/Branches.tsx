/** What can be done with a message: copied, edited, sent again, gone on from in a new conversation. */

import type { Item, MessageItem } from "../core/index.ts";
import { copied } from "./clipboard.ts";
import { Icon, type IconName } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { type How, overlay } from "./overlay.ts";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

export const FilesChangedView = lazily(() => import("./FileSteps.tsx").then((loaded) => loaded.FilesChangedView));
export const FilesRestoredView = lazily(() => import("./FileSteps.tsx").then((loaded) => loaded.FilesRestoredView));
export const ForkedView = lazily(() => import("./FileSteps.tsx").then((loaded) => loaded.ForkedView));

/** Below a message of a person. Who only reads may copy it. */
export function MessageActions({ item }: { item: MessageItem }) {
  const page = usePage();
  const ask = (how: How) => (): void => {
    overlay.value = { what: "branch", item, how };
  };
  return (
    <div class="message-actions">
      <CopyVerb id="message-copy" text={item.text} />
      {!page.conversation.value.isGuest && (
        <>
          <MessageVerb id="message-edit" icon="edit" label={t("editMessage")} run={ask("edit")} />
          <MessageVerb id="message-again" icon="again" label={t("tryAgain")} run={ask("again")} />
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
      <CopyVerb id="answer-copy" text={item.text} />
      {!page.conversation.value.isGuest && item.turn_id !== null && (
        <>
          <MessageVerb id="answer-again" icon="again" label={t("tryAgain")} run={again} />
          <MessageVerb id="answer-fork" icon="branch" label={t("forkHere")} run={fork} />
        </>
      )}
    </div>
  );
}

function isPersons(item: Item): item is MessageItem {
  return item.kind === "message" && item.sender === "user";
}

function CopyVerb({ id, text }: { id: string; text: string }) {
  const page = usePage();
  const copy = async (): Promise<void> => {
    if (await copied(text)) page.tell(t("copied"));
  };
  if (text === "") return null;
  return <MessageVerb id={id} icon="copy" label={t("copy")} run={() => void copy()} />;
}

interface MessageVerbProps {
  id: string;
  icon: IconName;
  label: string;
  run(): void;
}

function MessageVerb({ id, icon, label, run }: MessageVerbProps) {
  return (
    <button
      type="button"
      class="icon-button"
      data-testid={id}
      aria-label={label}
      title={label}
      onClick={run}
    >
      <Icon name={icon} />
    </button>
  );
}
