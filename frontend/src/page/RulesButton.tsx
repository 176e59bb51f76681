import { useState } from "preact/hooks";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

const RulesDialog = lazily(() => import("./Rules.tsx").then((loaded) => loaded.RulesDialog));

/** In the header, once the session has rules of its own. */
export function RulesButton() {
  const { chat } = useConversation();
  const [isOpen, setOpen] = useState(false);
  if (chat.rules.length === 0 && !isOpen) return null;
  return (
    <>
      <button
        type="button"
        class="text-button"
        data-testid="rules-button"
        aria-label={t("rulesCount", { n: chat.rules.length })}
        title={t("rules")}
        aria-haspopup="dialog"
        onClick={() => setOpen(true)}
      >
        <Icon name="shield" class="rules-icon" />
        <span>{chat.rules.length}</span>
      </button>
      {isOpen && <RulesDialog close={() => setOpen(false)} />}
    </>
  );
}
