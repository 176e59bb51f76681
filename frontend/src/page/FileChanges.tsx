/** What the turns of a session changed in its files, as the gateway's snapshots tell it. */

import { useEffect, useState } from "preact/hooks";
import { ApiError, encodedPath, type FileChanges } from "../core/index.ts";
import { Diff } from "./Diff.tsx";
import { plain, sizeText } from "./filewords.ts";
import { useConversation, usePage } from "./page.ts";
import { language, t } from "./preferences.ts";

const TURNS_MOST = 200;
const FILES_MOST = 200;

/** An item of the conversation that says that a turn changed files. */
interface TurnItem {
  kind: string;
  turn?: number;
  at?: string;
}

export function Changes() {
  const { chat } = useConversation();
  const turns = (chat.items as readonly TurnItem[])
    .filter((item) => item.kind === "files_changed" && item.turn !== undefined)
    .slice(-TURNS_MOST)
    .reverse();
  const [chosen, setChosen] = useState<number | null>(null);
  const turn = turns.find((one) => one.turn === chosen)?.turn ?? turns[0]?.turn;
  if (turn === undefined) return <p class="quiet" data-testid="no-changes">{t("noChanges")}</p>;
  const time = new Intl.DateTimeFormat(language.value, { dateStyle: "short", timeStyle: "medium" });
  return (
    <>
      <label class="files-turn">
        <span>{t("changesOf")}</span>
        <select value={turn} data-testid="changes-turn" onChange={(event) => setChosen(Number(event.currentTarget.value))}>
          {turns.map((one) => (
            <option key={one.turn} value={one.turn}>
              {time.format(new Date(one.at ?? 0))}
            </option>
          ))}
        </select>
      </label>
      <TurnChanges key={turn} turn={turn} />
    </>
  );
}

const WORDS = { added: "changeAdded", changed: "changeChanged", removed: "changeRemoved" } as const;

function TurnChanges({ turn }: { turn: number }) {
  const page = usePage();
  const { sessionId } = page.conversation.value;
  const [changes, setChanges] = useState<FileChanges | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let isOver = false;
    page.api.fileChanges(sessionId, turn).then(
      (found) => !isOver && setChanges(found),
      (why: unknown) => !isOver && setError(why instanceof ApiError ? why.message : String(why)),
    );
    return () => void (isOver = true);
  }, [page, sessionId, turn]);
  if (error !== null) return <p class="quiet">{error}</p>;
  if (changes === null) return <p class="quiet">{t("loading")}</p>;
  const shown = changes.files.slice(0, FILES_MOST);
  return (
    <ul class="files-changes" data-testid="changes">
      {shown.map((file) => (
        <li key={file.path}>
          <div class="files-change">
            <button type="button" class="link" disabled={file.change === "removed"} onClick={() => page.filing.open(encodedPath(file.path))}>
              <bdi>{plain(file.path)}</bdi>
            </button>
            <span class={`quiet files-${file.change}`}>{t(WORDS[file.change as keyof typeof WORDS] ?? "changeChanged")}</span>
          </div>
          {file.before !== null || file.after !== null ? (
            <Diff path={file.path} before={file.before ?? ""} after={file.after ?? ""} />
          ) : (
            <p class="quiet">
              {t("changeSizes", { before: sizeText(file.size_before ?? 0), after: sizeText(file.size_after ?? 0) })}
            </p>
          )}
        </li>
      ))}
      {shown.length < changes.files.length && <li class="quiet">{t("andMore", { n: changes.files.length - shown.length })}</li>}
    </ul>
  );
}
