/** Where a turn failed: why, and a way to try again. Loaded when one has. */

import "./failure.css";
import type { Conversation } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { failureLine, failureWords } from "./failure-words.ts";
import { Icon } from "./icons.tsx";
import { PlainText } from "./Pieces.tsx";
import { language, t } from "./preferences.ts";

/** Of the words for a failure, which may be an agent's. */
const WORDS_MOST = 4_000;

export function FailureCard({ conversation }: { conversation: Conversation }) {
  const failure = conversation.chat.failure;
  if (failure === null) return null;
  const { words, also } = failureWords(failure, language.value);
  return (
    <section class="failure" role="alert" data-testid="failure">
      <Icon name="warn" />
      <div>
        <h2>{t("turnFailed")}</h2>
        <p dir="auto">{clipped(words, WORDS_MOST)}</p>
        {also && (
          <p class="failure-also">
            <bdi>{clipped(also, WORDS_MOST)}</bdi>
          </p>
        )}
      </div>
      {!conversation.isGuest && (
        <button type="button" class="button" data-testid="retry" onClick={() => void conversation.retry()}>
          {t("retry")}
        </button>
      )}
    </section>
  );
}

/** The gateway's line of the log, in the reader's language if the page has words for it. */
export function SystemLine({ text }: { text: string }) {
  return <PlainText text={failureLine(text, language.value) ?? text} />;
}
