import { useEffect } from "preact/hooks";
import type { MessageItem } from "../core/index.ts";
import { Banners } from "./Banners.tsx";
import { Composer } from "./Composer.tsx";
import { Icon } from "./icons.tsx";
import { useConversation, usePage, useStore } from "./page.ts";
import { t, theme, toggleLanguage, toggleTheme } from "./preferences.ts";
import { Sidebar } from "./Sidebar.tsx";
import { Transcript } from "./Transcript.tsx";

export function App() {
  const page = usePage();
  useEscape();
  return (
    <div class={`app ${page.isDrawerOpen.value ? "is-drawer-open" : ""}`}>
      <a class="skip" href="#composer" onClick={skip}>
        {t("skip")}
      </a>
      <Sidebar />
      <div
        class="scrim"
        aria-hidden="true"
        onClick={() => {
          page.isDrawerOpen.value = false;
        }}
      />
      <div class="page">
        <Header />
        <Banners />
        <main>
          <Transcript />
          <Composer />
        </main>
      </div>
      <p class="sr-only" aria-live="polite" data-testid="announcer">
        {page.announcement}
      </p>
      <p class={`toast ${page.toast.value ? "is-shown" : ""}`} role="status">
        {page.toast}
      </p>
    </div>
  );
}

function Header() {
  const page = usePage();
  const title = useTitle();
  return (
    <header class="header">
      <button
        type="button"
        class="icon-button drawer-open"
        data-testid="open-sessions"
        aria-label={t("openSessions")}
        aria-controls="sessions"
        aria-expanded={page.isDrawerOpen.value}
        onClick={() => {
          page.isDrawerOpen.value = true;
        }}
      >
        <Icon name="menu" />
      </button>
      <h1>{title ?? t("newSession")}</h1>
      <Usage />
      <button
        type="button"
        class="text-button"
        data-testid="language-toggle"
        aria-label={t("languageLabel")}
        onClick={toggleLanguage}
      >
        <Icon name="globe" />
        <span>{t("language")}</span>
      </button>
      <button
        type="button"
        class="icon-button"
        data-testid="theme-toggle"
        aria-label={t(theme.value === "dark" ? "toLight" : "toDark")}
        onClick={toggleTheme}
      >
        <Icon name={theme.value === "dark" ? "sun" : "moon"} />
      </button>
    </header>
  );
}

function Usage() {
  const { used, size } = useConversation().chat.usage as { used?: number; size?: number };
  if (!used || !size) return null;
  const format = new Intl.NumberFormat("en", { notation: "compact" });
  const words = t("tokens", { used: format.format(used), size: format.format(size) });
  return (
    <span class="usage" title={words}>
      <meter min={0} max={size} value={used} high={size * 0.85} aria-label={words} />
    </span>
  );
}

/** The session's title, else how its first message begins. */
function useTitle(): string | null {
  const conversation = useConversation();
  const store = useStore();
  const first = conversation.chat.items.find((i): i is MessageItem => i.kind === "message" && i.sender === "user");
  const title =
    conversation.chat.title ||
    store.current?.title ||
    (first ? first.text.split("\n")[0]?.slice(0, 80) : null) ||
    null;
  useEffect(() => {
    document.title = title ? `${title} · ${t("app")}` : t("app");
  }, [title]);
  return title;
}

/** Esc closes what is open, else stops the agent. */
function useEscape(): void {
  const page = usePage();
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return;
      if (document.querySelector("dialog[open], [popover]:popover-open")) return;
      const conversation = page.conversation.value;
      if (page.isDrawerOpen.value) page.isDrawerOpen.value = false;
      else if (conversation.isProcessing) void conversation.interrupt();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [page]);
}

/** The address's fragment names the session, so the skip link must not change it. */
function skip(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById("composer")?.focus();
}
