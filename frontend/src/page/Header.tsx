import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { MessageItem } from "../core/index.ts";
import { appName } from "./brand.ts";
import { Icon, type IconName } from "./icons.tsx";
import { overlay } from "./overlay.ts";
import { useConversation, useStore } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { waitingCount } from "./waiting.ts";
import { t, theme, toggleLanguage, toggleTheme } from "./preferences.ts";

/** The line above a conversation; `before` and `children` are drawn before and after its title. */
export function Header({ before, children }: { before?: ComponentChildren; children?: ComponentChildren }) {
  const title = useTitle();
  return (
    <header class="header">
      {before}
      <h1>{clipped(title ?? t("newSession"))}</h1>
      {children}
      <DisplaySettings />
    </header>
  );
}

/** Language and colours. */
export function DisplaySettings() {
  return (
    <>
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
    </>
  );
}

/** Everything that can be done, and everything that can be chosen. */
export function HelmButtons() {
  const button = (what: "palette" | "settings", icon: IconName) => (
    <button
      type="button"
      class="icon-button"
      data-testid={`open-${what}`}
      aria-label={t(what)}
      title={t(what)}
      onClick={() => {
        overlay.value = { what };
      }}
    >
      <Icon name={icon} />
    </button>
  );
  return (
    <>
      {button("palette", "command")}
      {button("settings", "settings")}
    </>
  );
}

/** How much of the model\'s context window is used. */
export function ContextMeter() {
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
  const name = appName();
  const waiting = waitingCount.value;
  useEffect(() => {
    document.title = `${waiting > 0 ? `(${waiting}) ` : ""}${title ? `${clipped(title)} · ` : ""}${name}`;
  }, [title, name, waiting]);
  return title;
}
