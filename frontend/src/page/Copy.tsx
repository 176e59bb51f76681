import { useState } from "preact/hooks";
import { copied } from "./clipboard.ts";
import { Icon } from "./icons.tsx";
import { t } from "./preferences.ts";

export function CopyButton({ text }: { text: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    if (!(await copied(text))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), 1600);
  };
  return (
    <button type="button" class="copy" onClick={() => void copy()}>
      <Icon name={isCopied ? "check" : "copy"} />
      <span aria-live="polite">{isCopied ? t("copied") : t("copy")}</span>
    </button>
  );
}

/** An address to hand on: to read, to select, to copy. */
export function LinkField({ url }: { url: string }) {
  return (
    <div class="link-field">
      <input
        class="field wide"
        dir="ltr"
        readOnly
        aria-label={t("link")}
        data-testid="link"
        value={url}
        onFocus={(event) => event.currentTarget.select()}
      />
      <CopyButton text={url} />
    </div>
  );
}
