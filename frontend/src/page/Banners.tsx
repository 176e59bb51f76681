import { useEffect, useState } from "preact/hooks";
import { type ApiError, type Conversation, TOO_LATE, wordsOf } from "../core/index.ts";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { useConversation, useIdentity, useIsOffline } from "./page.ts";
import { isForgetful, language, t } from "./preferences.ts";

const Forgetful = lazily(() => import("./Troubles.tsx").then((loaded) => loaded.Forgetful));
const Refused = lazily(() => import("./Troubles.tsx").then((loaded) => loaded.Refused));

/** A shorter interruption is not shown. */
const PATIENCE_MS = 1200;

export function Banners() {
  return (
    <>
      <ConnectionBanner />
      {isForgetful.value && <Forgetful />}
      <OfflineLine />
      <ErrorLine />
    </>
  );
}

/** Nothing can be shown before the gateway has said who this is. */
export function GatewayAway() {
  const { error } = useIdentity();
  if (!error) return null;
  return (
    <p class="banner banner-warn" role="status" data-testid="connection-banner">
      <span class="spinner" aria-hidden="true" />
      <span>{wordsOf(error, language.value)}</span>
    </p>
  );
}

export function ConnectionBanner() {
  const conversation = useConversation();
  const isBroken = conversation.status === "retrying";
  const isLate = useLate(isBroken);
  if (conversation.status === "refused") return <Refused status={conversation.detail.status ?? 0} />;
  if (conversation.status === "ended" && conversation.chat.ended) {
    return (
      <p class="banner" role="status" data-testid="ended-banner">
        {t("sessionEnded")}
      </p>
    );
  }
  if (!isBroken || !isLate) return null;
  return (
    <div class="banner banner-warn" role="status" data-testid="connection-banner">
      <span class="spinner" aria-hidden="true" />
      <span>{words(conversation)}</span>
      <button type="button" class="link" onClick={() => conversation.retryNow()}>
        {t("retryNow")}
      </button>
    </div>
  );
}

function words(conversation: Conversation): string {
  if (!navigator.onLine) return t("offline");
  const isDrained = conversation.chat.state === "closed" && conversation.chat.state_reason === "drained";
  return t(isDrained ? "closedDrained" : "reconnecting");
}

const Code = lazily(() => import("./Code.tsx").then((loaded) => loaded.Code));

const HOW = `AGENT_MODEL_URL=https://api.example.com/v1 \\
AGENT_MODEL=model-name \\
AGENT_MODEL_KEY=… \\
agent-gateway serve   # or: make run`;

function OfflineLine() {
  const [isOpen, setOpen] = useState(false);
  if (!useIsOffline()) return null;
  return (
    <details class="offline" data-testid="offline-line" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span>{t("offlineModel")}</span> <span class="link">{t("offlineHow")}</span>
      </summary>
      <div class="offline-help">
        <p>{t("offlineHelp")}</p>
        {isOpen && <Code code={HOW} language="bash" />}
      </div>
    </details>
  );
}

export function ErrorLine() {
  const conversation = useConversation();
  const { error } = conversation;
  if (!error || isSaidByCard(error)) return null;
  return (
    <div class="banner banner-error" role="alert" data-testid="error-line">
      <Icon name="warn" />
      <span dir="auto">{wordsOf(error, language.value)}</span>
      <button type="button" class="link" onClick={() => conversation.dismissError()}>
        {t("dismiss")}
      </button>
    </div>
  );
}

/** True if somebody else answered first: the card says who. */
function isSaidByCard({ code, message }: ApiError): boolean {
  return TOO_LATE.has(code) && message.endsWith(" answered this first.");
}

function useLate(isOn: boolean): boolean {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    if (!isOn) return setLate(false);
    const timer = setTimeout(() => setLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [isOn]);
  return isLate;
}
