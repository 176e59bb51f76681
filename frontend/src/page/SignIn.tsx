import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, wordsOf } from "../core/index.ts";
import { appName } from "./brand.ts";
import { DisplaySettings } from "./Header.tsx";
import { Icon, Logo } from "./icons.tsx";
import { KeepShares } from "./KeepShares.tsx";
import { here, isOnlyOperator, OPERATIONS } from "./address.ts";
import { useIdentity, usePage } from "./page.ts";
import { language, t } from "./preferences.ts";

/** The ways in: a pasted key, a provider. What was on screen before stays behind it and goes on afterwards. */
export function SignIn() {
  const page = usePage();
  const identity = useIdentity();
  const { ways } = identity;
  const isGuest = identity.phase === "inside";
  const [keeps, setKeeps] = useState(false);
  useEffect(() => {
    document.title = `${t("signIn")} · ${appName()}`;
  }, []);
  return (
    <div class="sign-in" data-testid="sign-in">
      <header class="sign-in-head">
        <DisplaySettings />
      </header>
      <main>
        <Logo />
        <h1>{t("signInTitle")}</h1>
        <p>{t(isGuest ? "claimFromGuest" : identity.wasInside ? "signInAgain" : "signInText")}</p>
        {isGuest && <KeepShares keeps={keeps} choose={setKeeps} />}
        {ways.includes("key") && <KeyForm keeps={keeps} />}
        {ways.length > 1 && <p class="quiet">{t("or")}</p>}
        {ways.includes("oidc") && (
          <a class="button" data-testid="sign-in-provider" href={page.api.providerUrl(here(), keeps)}>
            {t("signInProvider")}
          </a>
        )}
        {ways.length === 0 && <p class="quiet">{t("noWayIn")}</p>}
        {isGuest && (
          <button
            type="button"
            class="link"
            data-testid="sign-in-back"
            onClick={() => {
              page.isSigningIn.value = false;
            }}
          >
            {t("back")}
          </button>
        )}
      </main>
    </div>
  );
}

function KeyForm({ keeps }: { keeps: boolean }) {
  const { identity } = usePage();
  const field = useRef<HTMLInputElement>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => field.current?.focus(), []);
  const signIn = async (): Promise<void> => {
    const input = field.current;
    if (!input || isBusy) return;
    setBusy(true);
    setError(null);
    try {
      await identity.signIn(input.value, keeps);
      if (isOnlyOperator(identity.me)) location.replace(OPERATIONS);
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      setError(refusal);
      setBusy(false);
      input.select();
    }
  };
  return (
    <form
      data-testid="key-form"
      onSubmit={(event) => {
        event.preventDefault();
        void signIn();
      }}
    >
      <label for="key">{t("key")}</label>
      <input
        id="key"
        ref={field}
        class="field wide"
        type="password"
        autocomplete="off"
        spellcheck={false}
        dir="ltr"
        required
        placeholder="agw_…"
        aria-invalid={error !== null}
        aria-describedby="key-hint key-error"
      />
      <p id="key-hint" class="quiet">
        {t("keyHint")}
      </p>
      <p id="key-error" class="field-error" role="alert" data-testid="sign-in-error">
        {error && <Icon name="warn" />}
        {error && (error.code === "sign_in_failed" ? t("wrongKey") : wordsOf(error, language.value))}
      </p>
      <button type="submit" class="button primary" disabled={isBusy}>
        {t("signIn")}
      </button>
    </form>
  );
}
