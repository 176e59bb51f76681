import "./dialogs.css";
import { useState } from "preact/hooks";
import { NAME_MOST, wordsOf } from "../core/index.ts";
import { ConnectionBanner, ErrorLine } from "./Banners.tsx";
import { Composer } from "./Composer.tsx";
import { Header } from "./Header.tsx";
import { Icon } from "./icons.tsx";
import { People } from "./People.tsx";
import { useConversation, useLink, usePage } from "./page.ts";
import { language, t } from "./preferences.ts";
import { Transcript } from "./Transcript.tsx";

/** Somebody else's conversation, followed live by who has a link to it, and joined in as far as the link allows. */
export function SharedView() {
  const conversation = useConversation();
  const link = useLink();
  const isGone = conversation.status === "refused" && conversation.detail.status === 404;
  return (
    <div class="page page-shared" data-testid="shared">
      <Header>
        <span class="badge" data-testid="shared-kind">
          <Icon name={link?.mayWrite ? "person" : "read"} />
          {t(link?.mayApprove ? "sharedApprove" : link?.mayWrite ? "sharedDrive" : "shared")}
        </span>
      </Header>
      <People />
      {isGone ? <Gone /> : <ConnectionBanner />}
      <ErrorLine />
      <main>
        <Transcript />
        {!isGone && link?.needsName && <NameForm />}
        {!isGone && link?.mayWrite && !link.needsName && <Composer />}
      </main>
    </div>
  );
}

/** Asked once; this browser keeps it. */
function NameForm() {
  const page = usePage();
  const link = useLink();
  const [name, setName] = useState("");
  const error = link?.error ?? null;
  return (
    <form
      class="dock name-form"
      data-testid="name-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (name.trim() !== "") void page.takeName(name);
      }}
    >
      <label for="guest-name">{t("nameAsked")}</label>
      <div class="name-row">
        <input
          id="guest-name"
          class="field"
          data-testid="guest-name"
          dir="auto"
          autocomplete="nickname"
          maxLength={NAME_MOST}
          value={name}
          aria-invalid={error !== null}
          aria-describedby="guest-name-error"
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <button type="submit" class="button primary" data-testid="guest-join">
          {t("nameTake")}
        </button>
      </div>
      <p id="guest-name-error" class="field-error" role="alert" data-testid="guest-name-error">
        {error && (error.status === 422 ? t("nameRefused") : wordsOf(error, language.value))}
      </p>
    </form>
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
