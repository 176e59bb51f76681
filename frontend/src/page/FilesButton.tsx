import { type FunctionComponent, type RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "./icons.tsx";
import { useConversation, usePage } from "./page.ts";
import { t } from "./preferences.ts";

/** Opens the panel of files. */
export function FilesButton() {
  const { filing } = usePage();
  return (
    <button
      type="button"
      class="icon-button"
      data-testid="open-files"
      aria-label={t("files")}
      title={t("files")}
      aria-expanded={filing.isOpen.value}
      onClick={() => (filing.isOpen.value ? (filing.isOpen.value = false) : filing.open())}
    >
      <Icon name="folder" />
    </button>
  );
}

/** The panel, whose code is loaded when it is first opened. */
export function FilesPlace() {
  const page = usePage();
  const [Panel, setPanel] = useState<FunctionComponent | null>(null);
  const isOpen = page.filing.isOpen.value;
  useEffect(() => {
    if (!isOpen || Panel !== null) return;
    import("./Files.tsx").then(
      (loaded) => setPanel(() => loaded.Files),
      (error: unknown) => page.tellWhy(error),
    );
  }, [isOpen, Panel, page]);
  if (!isOpen || Panel === null) return null;
  return <Panel key={page.conversation.value.sessionId} />;
}

/** Keeps the names of files in the conversation links to them. */
export function useFileLinks(inner: RefObject<HTMLElement>): void {
  const page = usePage();
  const conversation = useConversation();
  const { filing } = page;
  const { sessionId, isProcessing, hasLoaded } = conversation;
  const isEmpty = conversation.chat.seq === 0;
  const version = filing.version.value;
  useEffect(() => {
    if (page.shared === null && hasLoaded && !isProcessing && !isEmpty) void filing.learn(page.api, sessionId);
  }, [page, filing, sessionId, isProcessing, hasLoaded, isEmpty]);
  useEffect(() => {
    const box = inner.current;
    if (!box || page.shared !== null) return;
    let timer: ReturnType<typeof setTimeout> | null = null;
    const link = (): void => {
      timer = null;
      filing.link(box, (name) => t("openFile", { name }));
    };
    const observer = new MutationObserver(() => (timer ??= setTimeout(link, 300)));
    observer.observe(box, { childList: true, subtree: true });
    link();
    const follow = (event: MouseEvent | KeyboardEvent): void => void filing.follow(event);
    box.addEventListener("click", follow);
    box.addEventListener("keydown", follow);
    return () => {
      if (timer !== null) clearTimeout(timer);
      observer.disconnect();
      box.removeEventListener("click", follow);
      box.removeEventListener("keydown", follow);
    };
  }, [page, filing, inner, version]);
}
