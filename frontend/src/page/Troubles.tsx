/** What is seldom said above a conversation, loaded when it is: the gateway refuses it, the browser keeps nothing. */

import { useEffect } from "preact/hooks";
import { isOnlyOperator, OPERATIONS } from "./address.ts";
import { Icon } from "./icons.tsx";
import { useConversation, useIdentity, usePage } from "./page.ts";
import { t, textsOf } from "./preferences.ts";

const w = textsOf({
  en: {
    refused: "The gateway refused the connection (HTTP {status}).",
    onlyOperator: "This key is for operators; it cannot hold conversations.",
    operations: "Operations",
    forgetful:
      "This browser keeps nothing of this page: that is forbidden, or there is no room. What you have written and not sent is lost when the page is closed or loaded again.",
  },
  he: {
    refused: "השרת דחה את העמוד ({status}).",
    onlyOperator: "המפתח שלך משגיח על השער; אין לו שיחות משלו.",
    operations: "תפעול",
    forgetful: "הדפדפן אינו שומר דבר מהעמוד הזה: הדבר אסור, או שאין מקום. מה שנכתב ולא נשלח יאבד כשהעמוד ייסגר או ייטען מחדש.",
  },
});

export function Refused({ status }: { status: number }) {
  const conversation = useConversation();
  const { me } = useIdentity();
  if (isOnlyOperator(me)) {
    return (
      <div class="banner" role="status" data-testid="connection-banner">
        <span>{w("onlyOperator")}</span>
        <a class="link" data-testid="to-operations" href={OPERATIONS}>
          {w("operations")}
        </a>
      </div>
    );
  }
  return (
    <div class="banner banner-error" role="alert" data-testid="connection-banner">
      <Icon name="warn" />
      <span>{w("refused", { status })}</span>
      <button type="button" class="link" onClick={() => conversation.start()}>
        {t("retryNow")}
      </button>
    </div>
  );
}

/** While something is written that would be lost, the browser asks before it leaves the page. */
export function Forgetful() {
  const page = usePage();
  useEffect(() => {
    const ask = (event: Event): void => {
      const { sessionId, outgoing } = page.conversation.value;
      if (page.store.draft(sessionId) || outgoing.length > 0) event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, []);
  return (
    <p class="banner banner-warn" role="status" data-testid="forgetful">
      <Icon name="warn" />
      <span>{w("forgetful")}</span>
    </p>
  );
}
