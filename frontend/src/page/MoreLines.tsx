import { t } from "./preferences.ts";

/** How many lines are left out, and a way to see them, up to a bound. */
export function MoreLines({ count, isWhole, show }: { count: number; isWhole: boolean; show(): void }) {
  return (
    <p class="quiet more-lines">
      {t("truncated", { n: count })}
      {!isWhole && (
        <button type="button" class="link" data-testid="show-all" onClick={show}>
          {t("showAll")}
        </button>
      )}
    </p>
  );
}
