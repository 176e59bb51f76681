/** A permission that waits: what is asked for, what each answer comes to, and the answers. */

import "./permission.css";
import { useState } from "preact/hooks";
import type { Identity, PermissionItem, ToolCallItem } from "../core/index.ts";
import { AnswerIcon, AnswerText } from "./Answer.tsx";
import { alwaysOf, isAllowed } from "./asked.ts";
import { toComposer, useAsking } from "./asking.ts";
import { Icon } from "./icons.tsx";
import { useIdentity, useLink, usePage } from "./page.ts";
import { PlainText } from "./Pieces.tsx";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";
import { RuleText } from "./Rules.tsx";
import { Substance } from "./ToolCall.tsx";

export function PermissionView({ item, call }: { item: PermissionItem; call?: ToolCallItem | undefined }) {
  const page = usePage();
  const mayAnswer = isApprover(useIdentity());
  const [chosen, setChosen] = useState<string | null>(null);
  const isOpen = item.outcome === null;
  useLink();
  const { mayAnswer: mayAnswerHere, isGuest } = page.conversation.value;
  const box = useAsking(isOpen, mayAnswerHere, t("permissionAsked", { title: clipped(item.title) }));
  if (!item.options) return null;
  if (!isOpen || !mayAnswerHere) return <PermissionDone item={item} />;
  // What holds for always is the owner's to say.
  const options = item.options.filter((one) => !isGuest || !one.kind.endsWith("_always")).slice(0, OPTIONS_MOST);

  const answer = async (optionId: string): Promise<void> => {
    setChosen(optionId);
    toComposer();
    if (!(await page.conversation.value.answerPermission(item.id, optionId))) setChosen(null);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const option = options[Number(event.key) - 1];
    if (!option || !mayAnswer || chosen !== null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    void answer(option.option_id);
  };
  return (
    <section
      ref={box}
      class="permission"
      data-testid="permission"
      data-permission={item.id}
      role="group"
      tabIndex={-1}
      aria-label={t("permissionAsked", { title: clipped(item.title) })}
      onKeyDown={onKeyDown}
    >
      <header>
        <Icon name="shield" />
        <h2>{t("permission")}</h2>
      </header>
      <p class="quiet">{t("permissionWords")}</p>
      <blockquote class="permission-title" data-testid="permission-title" dir="auto" tabIndex={0}>
        <PlainText text={item.title} />
      </blockquote>
      {call && <Substance call={call} />}
      {mayAnswer ? (
        <>
          <div class="permission-options" role="group" aria-label={t("permissionAnswers")}>
            {options.map((option, place) => (
              <button
                key={option.option_id}
                type="button"
                class="button"
                data-testid="permission-option"
                data-kind={option.kind}
                disabled={chosen !== null}
                onClick={() => void answer(option.option_id)}
              >
                <Icon name={option.kind.startsWith("allow") ? "check" : "close"} />
                <span dir="auto">{clipped(option.name)}</span>
                <kbd aria-hidden="true">{place + 1}</kbd>
              </button>
            ))}
          </div>
          {isGuest ? <OwnersAlways item={item} /> : <AlwaysMeans item={item} call={call} />}
        </>
      ) : (
        <p class="quiet" data-testid="permission-not-yours">
          {t("permissionNotYours")}
        </p>
      )}
    </section>
  );
}

/** An agent that asks with more choices than a person reads gets none of the rest. */
const OPTIONS_MOST = 50;

/** Whether the caller may answer: a gateway that sets this apart says so. */
function isApprover({ me }: Identity): boolean {
  return me?.may_approve !== false;
}

/** What an answer for always holds for, and until when. */
function AlwaysMeans({ item, call }: { item: PermissionItem; call?: ToolCallItem | undefined }) {
  const always = alwaysOf(item, call);
  if (always === "none") return null;
  return (
    <p class="permission-always" data-testid="permission-always" data-always={always}>
      {always === "rule" && item.always && (
        <>
          {t("alwaysRule")} <RuleText rule={item.always} /> {t("alwaysUntil")}
        </>
      )}
      {always === "once" && t("alwaysOnce")}
      {always === "agent" && t("alwaysAgent")}
    </p>
  );
}

/** Says to somebody with a link why an answer that the agent offers is not here. */
function OwnersAlways({ item }: { item: PermissionItem }) {
  if (!item.options.some((one) => one.kind.endsWith("_always"))) return null;
  return <p class="permission-always">{t("alwaysOwners")}</p>;
}

function PermissionDone({ item }: { item: PermissionItem }) {
  return (
    <p class={`permission-done ${isAllowed(item) ? "is-allowed" : ""}`} data-testid="permission-answered">
      <AnswerIcon item={item} />
      <span dir="auto">{clipped(item.title)}</span>
      <AnswerText item={item} />
    </p>
  );
}

/** Above the composer while the card that waits is scrolled away; nobody answers without having seen it. */
export function AwayPermission({ item, show }: { item: PermissionItem; show(): void }) {
  return (
    <div class="away-permission" data-testid="permission-away" role="status">
      <Icon name="shield" />
      <span class="away-title">
        {t("permission")}: <bdi>{clipped(item.title, 120)}</bdi>
      </span>
      <button type="button" class="button small" data-testid="permission-show" onClick={show}>
        {t("permissionShow")}
      </button>
    </div>
  );
}
