import { useState } from "preact/hooks";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { Menu, MenuItem } from "./Menu.tsx";
import { useOwnKeys } from "./own-keys.ts";
import { useIdentity, usePage } from "./page.ts";
import { t } from "./preferences.ts";

const HandoverDialog = lazily(() => import("./Handover.tsx").then((loaded) => loaded.HandoverDialog));
const KeysDialog = lazily(() => import("./Keys.tsx").then((loaded) => loaded.KeysDialog));
const UsageDialog = lazily(() => import("./UsageDialog.tsx").then((loaded) => loaded.UsageDialog));

/** The tenant of a gateway that has only one; it is not shown. */
const ONLY_TENANT = "default";

/** The account menu: who is signed in, signing in and out, and continuing elsewhere. Empty if the gateway has no sign-in. */
export function AccountMenu() {
  const page = usePage();
  const identity = useIdentity();
  const [isMoving, setMoving] = useState(false);
  const [isLooking, setLooking] = useState(false);
  const [isSettingKeys, setSettingKeys] = useState(false);
  const hasKeys = useOwnKeys().length > 0;
  const { me, ways } = identity;
  const dialog = isSettingKeys && <KeysDialog close={() => setSettingKeys(false)} />;
  if (me === null) return null;
  if (identity.isLocal) {
    if (!hasKeys) return null;
    return (
      <>
        <button type="button" class="account" data-testid="account-keys" onClick={() => setSettingKeys(true)}>
          <Icon name="key" />
          <span class="account-who">{t("ownKeys")}</span>
        </button>
        {dialog}
      </>
    );
  }
  const isGuest = me.kind === "visitor";
  const canSignOut = me.kind === "user" && ways.length > 0;
  const canLook = me.scopes.includes("read") && !isGuest;
  const canMove = me.scopes.includes("chat") && (isGuest || canSignOut);
  const who = isGuest ? t("guest") : me.subject;
  const shown = (
    <>
      <Icon name="person" />
      <span class="account-who" dir="auto">
        {who}
        {me.tenant !== ONLY_TENANT && <small>{me.tenant}</small>}
      </span>
      <Icon name="more" />
    </>
  );
  if (!canMove && !canSignOut && !canLook && !hasKeys) return <p class="account">{shown}</p>;
  return (
    <>
      <Menu
        id="account"
        label={t("account", { who })}
        button={{ class: "account", testId: "account", label: t("account", { who }), children: shown }}
      >
        {isGuest && ways.length > 0 && (
          <MenuItem
            icon="person"
            label={t("signIn")}
            testId="account-sign-in"
            run={() => {
              page.isSigningIn.value = true;
            }}
          />
        )}
        {canLook && (
          <MenuItem icon="list" label={t("usageMine")} testId="usage-mine" run={() => setLooking(true)} />
        )}
        {hasKeys && (
          <MenuItem icon="key" label={t("ownKeys")} testId="account-keys" run={() => setSettingKeys(true)} />
        )}
        {canMove && <MenuItem icon="move" label={t("handover")} testId="handover" run={() => setMoving(true)} />}
        {canSignOut && (
          <MenuItem icon="leave" label={t("signOut")} testId="sign-out" run={() => void page.signOut(false)} />
        )}
        {canSignOut && (
          <MenuItem
            icon="leave"
            label={t("signOutEverywhere")}
            testId="sign-out-everywhere"
            isDanger
            run={() => void page.signOut(true)}
          />
        )}
      </Menu>
      {isLooking && <UsageDialog close={() => setLooking(false)} />}
      {dialog}
      {isMoving && <HandoverDialog close={() => setMoving(false)} />}
    </>
  );
}
