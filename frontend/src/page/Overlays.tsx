/** What can lie above the page: the palette, the settings, a dialog that an action opens. Each is fetched then. */

import { lazily } from "./lazy.tsx";
import { overlay } from "./overlay.ts";

const BranchDialog = lazily(() => import("./BranchDialog.tsx").then((loaded) => loaded.BranchDialog));
const ConfirmDelete = lazily(() => import("./SessionDialogs.tsx").then((loaded) => loaded.ConfirmDelete));
const HandoverDialog = lazily(() => import("./Handover.tsx").then((loaded) => loaded.HandoverDialog));
const Palette = lazily(() => import("./Palette.tsx").then((loaded) => loaded.Palette));
const RenameDialog = lazily(() => import("./SessionDialogs.tsx").then((loaded) => loaded.RenameDialog));
const SettingsDialog = lazily(() => import("./Settings.tsx").then((loaded) => loaded.SettingsDialog));
const ShareDialog = lazily(() => import("./Share.tsx").then((loaded) => loaded.ShareDialog));
const ShortcutSheet = lazily(() => import("./ShortcutSheet.tsx").then((loaded) => loaded.ShortcutSheet));
const TagsDialog = lazily(() => import("./Tags.tsx").then((loaded) => loaded.TagsDialog));

export function Overlays() {
  const shown = overlay.value;
  // An action of the palette may have opened something else meanwhile.
  const close = (): void => {
    if (overlay.peek() === shown) overlay.value = null;
  };
  switch (shown?.what) {
    case undefined:
      return null;
    case "palette":
      return <Palette close={close} />;
    case "settings":
      return <SettingsDialog close={close} />;
    case "shortcuts":
      return <ShortcutSheet close={close} />;
    case "handover":
      return <HandoverDialog close={close} />;
    case "rename":
      return <RenameDialog row={shown.row} close={close} />;
    case "share":
      return <ShareDialog row={shown.row} close={close} />;
    case "tags":
      return <TagsDialog row={shown.row} close={close} />;
    case "delete":
      return <ConfirmDelete row={shown.row} close={close} />;
    case "branch":
      return <BranchDialog item={shown.item} how={shown.how} close={close} />;
  }
}
