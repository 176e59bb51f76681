/** Permission rules: what one says, and those of a session, which can be revoked. */

import "./permission.css";
import { useEffect, useState } from "preact/hooks";
import type { NamedRule, PermissionRule } from "../core/index.ts";
import { plainly, quoted } from "./asked.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { useConversation, usePage } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";

/** A rule names at most so many files here; the rest is counted. */
const PATHS_MOST = 10;
const TEXT_MOST = 2_000;

/** What a rule is about, without its answer. */
export function RuleText({ rule }: { rule: PermissionRule }) {
  const paths = rule.path ?? [];
  const texts = [
    ...(rule.command ? [quoted(rule.command)] : []),
    ...paths.slice(0, PATHS_MOST),
    ...(rule.mcp_server ? [`${rule.mcp_server}: ${rule.tool || "*"}`] : []),
  ];
  return (
    <span class="rule-text">
      {texts.map((text, place) => (
        <code key={place} class="rule-code" dir="ltr">
          {clipped(plainly(text), TEXT_MOST)}
        </code>
      ))}
      {paths.length > PATHS_MOST && <span>{t("andMore", { n: paths.length - PATHS_MOST })}</span>}
      {rule.command && !rule.is_exact && <span class="quiet">{t("ruleBeginning")}</span>}
      {rule.input && <span>{t("ruleInput")}</span>}
      {rule.kind && <span class="quiet">({clipped(rule.kind, 40)})</span>}
      {!rule.mcp_server && rule.tool && <span class="quiet">{clipped(rule.tool, 100)}</span>}
    </span>
  );
}

const ACTIONS = { allow: "ruleAllow", ask: "ruleAsk", deny: "ruleDeny" } as const;

export function RulesDialog({ close }: { close(): void }) {
  const page = usePage();
  const { chat, sessionId } = useConversation();
  const [operators, setOperators] = useState<NamedRule[]>([]);
  useEffect(() => {
    page.api.rules(sessionId).then(
      (found) => setOperators(found.operator),
      (error: unknown) => page.tellWhy(error),
    );
  }, [sessionId]);
  const revoke = (rule: NamedRule): void =>
    void page.api.revokeRule(sessionId, rule.rule_id).catch((error: unknown) => page.tellWhy(error));
  return (
    <Dialog title={t("rules")} close={close}>
      <p>{t("rulesText")}</p>
      {chat.rules.length === 0 && <p class="quiet">{t("noRules")}</p>}
      <ul class="rules" data-testid="rules">
        {chat.rules.map((one) => (
          <li key={one.rule_id} data-testid="rule-row">
            <Rule rule={one.rule} />
            <button
              type="button"
              class="button small"
              data-testid="rule-revoke"
              aria-label={t("revokeRule", { rule: wordsOf(one.rule) })}
              onClick={() => revoke(one)}
            >
              {t("revoke")}
            </button>
          </li>
        ))}
      </ul>
      {operators.length > 0 && (
        <>
          <h3>{t("rulesOperator")}</h3>
          <ul class="rules" data-testid="operator-rules">
            {operators.map((one) => (
              <li key={one.rule_id}>
                <Rule rule={one.rule} />
              </li>
            ))}
          </ul>
        </>
      )}
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

function Rule({ rule }: { rule: PermissionRule }) {
  return (
    <span>
      <b>{t(ACTIONS[rule.action])}</b> <RuleText rule={rule} />
    </span>
  );
}

function wordsOf(rule: PermissionRule): string {
  const about = rule.command ? quoted(rule.command) : (rule.path?.join(", ") ?? rule.tool ?? rule.kind ?? "");
  return clipped(`${t(ACTIONS[rule.action])} ${about}`);
}
