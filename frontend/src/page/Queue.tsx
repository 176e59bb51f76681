import { useState } from "preact/hooks";
import type { WaitingMessage } from "../core/index.ts";
import { Icon, type IconName } from "./icons.tsx";
import { useConversation } from "./page.ts";
import { nameOf } from "./people.ts";
import { t } from "./preferences.ts";

/** What a waiting message says; one without words, which files it brings. */
function wordsOf(message: WaitingMessage): string {
  return message.text || (message.attachments ?? []).map((file) => file.name).join(", ");
}

/** Messages that wait, in order: for the turn before them, or after a stop for the user's word, or for a budget. */
export function Queue() {
  const conversation = useConversation();
  const { waiting, is_held: isHeld, held_for: heldFor } = conversation.chat;
  const { isGuest } = conversation;
  if (waiting.length === 0) return null;
  const held = heldFor === "budget" ? t("heldForBudget") : t("held");
  return (
    <section class={`queue ${isHeld ? "is-held" : ""}`} data-testid="queue" aria-label={t("waiting")}>
      <header>
        <Icon name="clock" />
        <h2>{isHeld ? held : t("waiting")}</h2>
        {isHeld && !isGuest && (
          <span class="queue-verbs">
            <button
              type="button"
              class="button primary small"
              data-testid="queue-send"
              onClick={() => void conversation.queue("send")}
            >
              {t("queueSend")}
            </button>
            <button
              type="button"
              class="button small"
              data-testid="queue-drop"
              onClick={() => void conversation.queue("drop")}
            >
              {t("queueDrop")}
            </button>
          </span>
        )}
      </header>
      <ul>
        {waiting.map((message, place) => (
          <QueueRow key={message.message_id} message={message} place={place} />
        ))}
      </ul>
    </section>
  );
}

/** One that waits: its author changes it, and the owner its place. */
function QueueRow({ message, place }: { message: WaitingMessage; place: number }) {
  const conversation = useConversation();
  const { isGuest } = conversation;
  const { waiting } = conversation.chat;
  const [isEditing, setEditing] = useState(false);
  const id = message.message_id;
  const text = wordsOf(message).slice(0, 60);
  const move = (before: string) => void conversation.changeQueued(id, { before });
  if (isEditing) return <QueueEdit message={message} close={() => setEditing(false)} />;
  return (
    <li data-testid="queued">
      <span class="queue-text" dir="auto">
        {message.author && <bdi class="queue-author">{nameOf(message.author)}: </bdi>}
        {wordsOf(message)}
      </span>
      {!isGuest && (
        <>
          {place > 0 && (
            <QueueVerb
              id="up"
              icon="up"
              label={t("queueUp", { text })}
              run={() => move(waiting[place - 1]?.message_id ?? "")}
            />
          )}
          {place < waiting.length - 1 && (
            <QueueVerb
              id="down"
              icon="down"
              label={t("queueDown", { text })}
              run={() => move(waiting[place + 2]?.message_id ?? "")}
            />
          )}
          {!message.author && (
            <QueueVerb id="edit" icon="edit" label={t("queueEdit", { text })} run={() => setEditing(true)} />
          )}
          <QueueVerb
            id="drop-one"
            icon="close"
            label={t("queueDropOne", { text })}
            run={() => void conversation.queue("drop", id)}
          />
        </>
      )}
    </li>
  );
}

interface QueueVerbProps {
  id: string;
  icon: IconName;
  label: string;
  run(): void;
}

function QueueVerb({ id, icon, label, run }: QueueVerbProps) {
  return (
    <button
      type="button"
      class="quiet-button"
      data-testid={`queue-${id}`}
      aria-label={label}
      title={label}
      onClick={run}
    >
      <Icon name={icon} />
    </button>
  );
}

function QueueEdit({ message, close }: { message: WaitingMessage; close(): void }) {
  const conversation = useConversation();
  const [text, setText] = useState(message.text);
  const save = async (): Promise<void> => {
    if (text.trim() === "") return;
    if (await conversation.changeQueued(message.message_id, { message: text.trim() })) close();
  };
  return (
    <li data-testid="queued">
      <form
        class="queue-edit"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <textarea
          class="field wide"
          dir="auto"
          rows={2}
          autofocus
          ref={(field) => field?.focus()}
          aria-label={t("queueEdit", { text: message.text.slice(0, 60) })}
          data-testid="queue-field"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.isComposing) return;
            if (event.key === "Enter" && !event.shiftKey) void save();
            else if (event.key === "Escape") close();
            else return;
            event.preventDefault();
            event.stopPropagation();
          }}
        />
        <button type="submit" class="button primary small" data-testid="queue-save" disabled={text.trim() === ""}>
          {t("save")}
        </button>
        <button type="button" class="button small" onClick={close}>
          {t("cancel")}
        </button>
      </form>
    </li>
  );
}
