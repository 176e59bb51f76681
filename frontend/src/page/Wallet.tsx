import "./permission.css";
import { useState } from "preact/hooks";
import { Icon } from "./icons.tsx";
import { jsonText } from "./json.ts";
import { Code } from "./Code.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

/** A transaction that waits for the user's wallet. The answer goes to the agent as a system message. */
export function Wallet({ transaction }: { transaction: string }) {
  const conversation = useConversation();
  const [hash, setHash] = useState("");
  return (
    <section class="permission wallet" data-testid="wallet" aria-label={t("wallet")}>
      <header>
        <Icon name="wallet" />
        <h2>{t("wallet")}</h2>
      </header>
      <Code code={pretty(transaction)} language="json" />
      <form
        class="permission-options"
        onSubmit={(event) => {
          event.preventDefault();
          void conversation.system(`Transaction sent: ${hash}`.trim());
        }}
      >
        <input
          class="field"
          dir="ltr"
          required
          value={hash}
          placeholder={t("walletHash")}
          aria-label={t("walletHash")}
          onInput={(event) => setHash(event.currentTarget.value)}
        />
        <button type="submit" class="button primary" data-testid="wallet-approve">
          {t("walletApprove")}
        </button>
        <button
          type="button"
          class="button"
          data-testid="wallet-reject"
          onClick={() => void conversation.system("Transaction rejected by user")}
        >
          {t("walletReject")}
        </button>
      </form>
    </section>
  );
}

function pretty(json: string): string {
  try {
    return jsonText(JSON.parse(json));
  } catch {
    return json;
  }
}
