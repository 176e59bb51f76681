import { useState } from "preact/hooks";
import { ApiError, type MessageItem, wordsOf } from "../core/index.ts";
import { Dialog } from "./Dialogs.tsx";
import { Icon } from "./icons.tsx";
import type { How } from "./overlay.ts";
import { usePage, useStore } from "./page.ts";
import { PlainText } from "./Pieces.tsx";
import { language, t } from "./preferences.ts";

/** It stays open, with what was written, until the new conversation is there. */
export function BranchDialog({ item, how, close }: { item: MessageItem; how: How; close(): void }) {
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
