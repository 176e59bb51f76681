/** Hosts that the agent was refused, and questions about hosts that no list names. */

import "./permission.css";
import { useState } from "preact/hooks";
import { type EgressAnswered, type EgressAskedItem, type EgressDeniedItem, isKey } from "../core/index.ts";
import { toComposer, useAsking } from "./asking.ts";
import { Icon } from "./icons.tsx";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

type Answer = EgressAnswered["answer"];

/** A host as people write it: the port only if it is not that of the web. */
function hostOf({ host, port }: { host: string; port: number }): string {
  return port === 443 || port === 80 || port === 0 ? host : `${host}:${port}`;
}

export function EgressDeniedView({ item }: { item: EgressDeniedItem }) {
  const key = `egressWhy_${item.why}`;
  const why = isKey(key) ? t(key) : item.why;
  const words = item.host === "" ? t("egressOthersDenied", { n: item.count, why }) : t("egressDenied", { why });
  return (
    <p class="notice notice-warning" data-testid="egress-denied" data-why={item.why} role="note">
      <Icon name="warn" />
      <span>
        {item.host !== "" && <bdi class="host">{hostOf(item)}</bdi>} {words}
        {item.host !== "" && item.count > 1 && <span class="quiet"> ×{item.count}</span>}
      </span>
    </p>
  );
}

export function EgressAskedView({ item }: { item: EgressAskedItem }) {
  const page = usePage();
  const [chosen, setChosen] = useState<Answer | null>(null);
  const { isGuest } = page.conversation.value;
  const isOpen = item.answer === null;
  const box = useAsking(isOpen, !isGuest, t("egressAsked", { host: hostOf(item) }));
  if (!item.host) return null;
  if (!isOpen || isGuest) return <EgressDone item={item} />;

  const isOperator = page.identity.me?.scopes.includes("operate") ?? false;
  const choices: Answer[] = ["once", "session", ...(isOperator ? (["always"] as const) : []), "deny"];
  const answer = async (choice: Answer): Promise<void> => {
    setChosen(choice);
    toComposer();
    if (!(await page.conversation.value.answerEgress(item.id, choice))) setChosen(null);
  };
  return (
    <section
      ref={box}
      class="permission"
      data-testid="egress-asked"
      role="group"
      tabIndex={-1}
      aria-label={t("egressAsked", { host: hostOf(item) })}
    >
      <header>
        <Icon name="shield" />
        <h2>{t("permission")}</h2>
      </header>
      <p class="permission-title">
        <bdi class="host">{hostOf(item)}</bdi> {t("egressQuestion")}
      </p>
      <div class="permission-options">
        {choices.map((choice) => (
          <button
            key={choice}
            type="button"
            class={choice === "once" ? "button primary" : choice === "deny" ? "button" : "button soft"}
            data-testid={`egress-${choice}`}
            disabled={chosen !== null}
            onClick={() => void answer(choice)}
          >
            {t(`egressAnswer_${choice}`)}
          </button>
        ))}
      </div>
    </section>
  );
}

function EgressDone({ item }: { item: EgressAskedItem }) {
  const isAllowed = item.answer !== null && ["once", "session", "always"].includes(item.answer);
  return (
    <p class={`permission-done ${isAllowed ? "is-allowed" : ""}`} data-testid="egress-answered">
      <Icon name={item.answer === null ? "clock" : isAllowed ? "check" : "close"} />
      <bdi class="host">{hostOf(item)}</bdi>
      <span class="quiet">
        {item.answer === null ? t("permissionOpen") : t(`egressAnswer_${item.answer}`)}
      </span>
    </p>
  );
}
