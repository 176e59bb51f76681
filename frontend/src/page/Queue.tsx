import type { WaitingMessage } from "../core/index.ts";
import { Icon } from "./icons.tsx";
import { useConversation } from "./page.ts";
import { nameOf } from "./people.ts";
import { t } from "./preferences.ts";

/** What a waiting message says; one without words, which files it brings. */
function wordsOf(message: WaitingMessage): string {
  return message.text || (message.attachments ?? []).map((file) => file.name).join(", ");
}

/** Messages that wait: for the turn before them, or after a stop for the user's word, or for a budget. */
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
        {waiting.map((message) => (
          <li key={message.message_id}>
            <span class="queue-text" dir="auto">
              {message.author && <bdi class="queue-author">{nameOf(message.author)}: </bdi>}
              {wordsOf(message)}
            </span>
            {!isGuest && <button
              type="button"
              class="quiet-button"
              data-testid="queue-drop-one"
              aria-label={t("queueDropOne", { text: wordsOf(message).slice(0, 60) })}
              title={t("queueDrop")}
              onClick={() => void conversation.queue("drop", message.message_id)}
            >
              <Icon name="close" />
            </button>}
          </li>
        ))}
      </ul>
    </section>
  );
}
