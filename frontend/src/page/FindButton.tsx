import { Icon } from "./icons.tsx";
import { t } from "./preferences.ts";
import { isFinding } from "./reveal.ts";

/** Opens the bar that searches the conversation, where there is no Ctrl+F. */
export function FindButton() {
  return (
    <button
      type="button"
      class="icon-button"
      data-testid="open-find"
      aria-label={t("find")}
      title={t("find")}
      aria-expanded={isFinding.value}
      onClick={() => {
        isFinding.value = !isFinding.value;
      }}
    >
      <Icon name="search" />
    </button>
  );
}
