import "./dialogs.css";
import { useEffect, useState } from "preact/hooks";
import { ApiError, type Handover, wordsOf } from "../core/index.ts";
import { LinkField } from "./Copy.tsx";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { Icon } from "./icons.tsx";
import { KeepShares } from "./KeepShares.tsx";
import { useIdentity, usePage } from "./page.ts";
import { language, moment, t } from "./preferences.ts";

/** A link that makes another browser this person. */
export function HandoverDialog({ close }: { close(): void }) {
  const page = usePage();
  const [link, setLink] = useState<Handover | null>(null);
  useEffect(() => {
    page.api.handOver().then(setLink, (error: unknown) => {
      page.tellWhy(error);
      close();
    });
  }, []);
  return (
    <Dialog title={t("handoverTitle")} close={close}>
      <p>{t("handoverText")}</p>
      {link && <LinkField url={link.url} />}
      {link && <p class="quiet">{t("handoverUntil", { time: moment(link.expires_at) })}</p>}
      <DialogClose close={close} />
    </Dialog>
  );
}

/** Asks before a link signs this browser in: its sender may mean harm. */
export function Claim({ token }: { token: string }) {
  const page = usePage();
  const { me } = useIdentity();
  const [error, setError] = useState<ApiError | null>(null);
  const [keeps, setKeeps] = useState(false);
  const close = (): void => {
    page.handover.value = null;
  };
  const claim = async (): Promise<void> => {
    try {
      await page.identity.claim(token, keeps);
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      return setError(refusal);
    }
    close();
    page.tell(t("claimDone"));
  };
  return (
    <Dialog title={t("claimTitle")} close={close}>
      <p>{t("claimText")}</p>
      {me?.kind === "visitor" && <p>{t("claimFromGuest")}</p>}
      {me?.kind === "visitor" && <KeepShares keeps={keeps} choose={setKeeps} />}
      {me?.kind === "user" && <p>{t("claimFromUser", { who: me.subject })}</p>}
      <p class="field-error" role="alert" data-testid="claim-error">
        {error && <Icon name="warn" />}
        {error && (error.code === "sign_in_failed" ? t("claimBad") : wordsOf(error, language.value))}
      </p>
      <div class="dialog-verbs">
        <button type="button" class="button" autofocus onClick={close}>
          {t(error ? "close" : "cancel")}
        </button>
        {!error && (
          <button type="button" class="button primary" data-testid="claim" onClick={() => void claim()}>
            {t("claimGo")}
          </button>
        )}
      </div>
    </Dialog>
  );
}
