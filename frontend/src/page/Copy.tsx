import { useState } from "preact/hooks";
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

/** The clipboard exists only in secure contexts; elsewhere a selection does it. */
async function copied(text: string): Promise<boolean> {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "sr-only";
  // Behind a modal dialog nothing can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  return isDone;
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
