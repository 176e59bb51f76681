import { shortened } from "../core/index.ts";
import type { DraftFiles } from "./draft-files.ts";
import { Icon } from "./icons.tsx";
import { useConversation, usePage } from "./page.ts";
import { t } from "./preferences.ts";

interface TooLongProps {
  text: string;
  /** So many characters are too many. */
  surplus: number;
  files: DraftFiles;
  write(text: string): void;
}

/** Says by how much a message is too long before it is sent, and what can be done about it. */
export function TooLong({ text, surplus, files, write }: TooLongProps) {
  const page = usePage();
  const { isGuest } = useConversation();
  const attach = (): void => {
    files.add([new File([text], "message.txt", { type: "text/plain" })]);
    write("");
  };
  return (
    <p class="too-long" role="status" data-testid="too-long">
      <Icon name="warn" />
      <span>{t("tooLong", { n: surplus })}</span>
      {!isGuest && (
        <button type="button" class="link" data-testid="attach-instead" onClick={attach}>
          {t("attachInstead")}
        </button>
      )}
      <button
        type="button"
        class="link"
        data-testid="shorten"
        onClick={() => write(shortened(text, page.identity.messageBytes).trimEnd())}
      >
        {t("shorten")}
      </button>
    </p>
  );
}
