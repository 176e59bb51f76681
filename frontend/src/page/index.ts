/** What applications and the operators' page may use of the page. */

export { CopyButton } from "./Copy.tsx";
export { Dialog } from "./Dialogs.tsx";
export { DisplaySettings } from "./Header.tsx";
export { Glyph, Icon } from "./icons.tsx";
export type { Ending, PagePart, PartPlace } from "./part.ts";
export { drawnBy, useChanges } from "./preact.tsx";
export { language, t, textsOf, theme } from "./preferences.ts";
export { dollars } from "./money.ts";
