import { ConnectionBanner } from "./Banners.tsx";
import { Header } from "./Header.tsx";
import { Icon } from "./icons.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";
import { Transcript } from "./Transcript.tsx";

/** Somebody else's conversation, followed live by who has a link to it: to read and nothing else. */
export function SharedView() {
  const conversation = useConversation();
  const isGone = conversation.status === "refused" && conversation.detail.status === 404;
  return (
    <div class="page page-shared" data-testid="shared">
      <Header>
        <span class="badge">
          <Icon name="read" />
          {t("shared")}
        </span>
      </Header>
      {isGone ? <Gone /> : <ConnectionBanner />}
      <main>
        <Transcript />
      </main>
    </div>
  );
}

function Gone() {
  return (
    <p class="banner banner-error" role="alert" data-testid="shared-gone">
      <Icon name="warn" />
      <span>{t("sharedGone")}</span>
    </p>
  );
}
