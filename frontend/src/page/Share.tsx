import { useEffect, useState } from "preact/hooks";
import type { NewShare, SessionSummary, ShareSummary } from "../core/index.ts";
import { LinkField } from "./Copy.tsx";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { useIdentity, usePage } from "./page.ts";
import { moment, t } from "./preferences.ts";

/** 0: until it is revoked. */
const HOURS = [1, 24, 24 * 7, 24 * 30, 0];
const HOURS_AT_FIRST = 24;
const KINDS = ["view", "drive", "approve"] as const;
type Kind = (typeof KINDS)[number];
const KIND_NAMES = { view: "kindView", drive: "kindDrive", approve: "kindApprove" } as const;
const KIND_TEXTS = { view: "kindViewText", drive: "kindDriveText", approve: "kindApproveText" } as const;

/** Links that others read a conversation with: make one, see them, revoke them. */
export function ShareDialog({ row, close }: { row: SessionSummary; close(): void }) {
  const { api, tellWhy } = useVerbs();
  const [shares, setShares] = useState<ShareSummary[] | null>(null);
  const [made, setMade] = useState<NewShare | null>(null);
  const [kind, setKind] = useState<Kind>("view");
  const { me } = useIdentity();
  const kinds = KINDS.filter((one) => one !== "approve" || me?.may_approve !== false);
  const [hours, setHours] = useState(HOURS_AT_FIRST);
  const read = (): Promise<void> => api.shares(row.session_id).then(setShares, tellWhy);
  useEffect(() => void read(), []);
  const make = async (): Promise<void> => {
    await api.share(row.session_id, kind, hours || undefined).then(setMade, tellWhy);
    await read();
  };
  const revoke = async (share: ShareSummary): Promise<void> => {
    if (made?.share_id === share.share_id) setMade(null);
    await api.revokeShare(row.session_id, share.share_id).catch(tellWhy);
    await read();
  };
  return (
    <Dialog title={t("shareTitle", { title: row.title || t("untitled") })} close={close}>
      <p>{t("shareText")}</p>
      <form
        class="share-form"
        onSubmit={(event) => {
          event.preventDefault();
          void make();
        }}
      >
        <fieldset class="share-kinds">
          <legend>{t("shareKind")}</legend>
          {kinds.map((one) => (
            <label key={one} class="check">
              <input
                type="radio"
                name="share-kind"
                value={one}
                data-testid={`share-kind-${one}`}
                checked={kind === one}
                onChange={() => setKind(one)}
              />
              <span>
                <strong>{t(KIND_NAMES[one])}</strong> <span class="quiet">{t(KIND_TEXTS[one])}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <label for="share-hours">{t("shareFor")}</label>
        <select
          id="share-hours"
          class="field"
          data-testid="share-hours"
          value={hours}
          onChange={(event) => setHours(Number(event.currentTarget.value))}
        >
          {HOURS.map((one) => (
            <option key={one} value={one}>
              {span(one)}
            </option>
          ))}
        </select>
        <button type="submit" class="button primary" data-testid="share-make">
          {t("shareMake")}
        </button>
      </form>
      <div role="status">
        {made && <LinkField url={made.url} />}
        {made && <p class="quiet">{t("shareOnce")}</p>}
      </div>
      <h3>{t("shares")}</h3>
      {shares?.length === 0 && <p class="quiet">{t("noShares")}</p>}
      <ul class="shares">
        {shares?.map((share) => (
          <Share key={share.share_id} share={share} revoke={() => void revoke(share)} />
        ))}
      </ul>
      <DialogClose close={close} />
    </Dialog>
  );
}

function Share({ share, revoke }: { share: ShareSummary; revoke(): void }) {
  const at = moment(share.created_at);
  const words = share.expires_at
    ? t("shareMade", { at, until: moment(share.expires_at) })
    : t("shareMadeForever", { at });
  return (
    <li data-testid="share-row">
      <span>
        <strong data-testid="share-row-kind">{t(KIND_NAMES[share.kind])}</strong> {words}{" "}
        <span data-testid="share-uses">{t("shareUses", { n: share.uses })}</span>
      </span>
      <button
        type="button"
        class="button small"
        data-testid="share-revoke"
        aria-label={`${t("revokeOf", { at })} (${t(KIND_NAMES[share.kind])})`}
        onClick={revoke}
      >
        {t("revoke")}
      </button>
    </li>
  );
}

function span(hours: number): string {
  if (hours === 0) return t("shareForever");
  if (hours === 1) return t("shareHour");
  return hours > 48 ? t("shareDays", { n: hours / 24 }) : t("shareHours", { n: hours });
}

function useVerbs() {
  const page = usePage();
  return { api: page.api, tellWhy: (error: unknown) => page.tellWhy(error) };
}
