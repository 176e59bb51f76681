import { useEffect } from "preact/hooks";
import { Banners, GatewayAway } from "./Banners.tsx";
import { Composer } from "./Composer.tsx";
import { FilesButton, FilesPlace } from "./FilesButton.tsx";
import { ContextMeter, Header, HelmButtons } from "./Header.tsx";
import { CostButton } from "./Usage.tsx";
import { FindButton } from "./FindButton.tsx";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { overlay } from "./overlay.ts";
import { People } from "./People.tsx";
import { useConversation, useIdentity, usePage } from "./page.ts";
import { HeaderParts, OpenPanel } from "./PartView.tsx";
import { Later } from "./Pieces.tsx";
import { t } from "./preferences.ts";
import { RulesButton } from "./RulesButton.tsx";
import { useShortcuts } from "./shortcuts.ts";
import { Sidebar } from "./Sidebar.tsx";
import { Transcript } from "./Transcript.tsx";

const Claim = lazily(() => import("./Handover.tsx").then((loaded) => loaded.Claim));
const Overlays = lazily(() => import("./Overlays.tsx").then((loaded) => loaded.Overlays));
const SharedView = lazily(() => import("./SharedView.tsx").then((loaded) => loaded.SharedView));
const SignIn = lazily(() => import("./SignIn.tsx").then((loaded) => loaded.SignIn));
const TakeOut = lazily(() => import("./TakeOut.tsx").then((loaded) => loaded.TakeOut));

export function App() {
  const page = usePage();
  return (
    <>
      {page.shared === null ? <Own /> : <SharedView />}
      <p class="sr-only" aria-live="polite" data-testid="announcer">
        {page.announcement}
      </p>
      <p class={`toast ${page.toast.value ? "is-shown" : ""}`} role="status" data-testid="toast">
        {page.toast}
      </p>
    </>
  );
}

/** One's own conversations, once the gateway has let one in. */
function Own() {
  const page = usePage();
  const { phase } = useIdentity();
  if (phase === "asking") return <GatewayAway />;
  return (
    <>
      {phase === "outside" || page.isSigningIn.value ? <SignIn /> : <ChatView />}
      {page.handover.value !== null && <Claim token={page.handover.value} />}
    </>
  );
}

function ChatView() {
  const page = usePage();
  useEscape();
  useShortcuts();
  return (
    <div class={`app ${page.isDrawerOpen.value ? "is-drawer-open" : ""}`}>
      <a class="skip" href="#composer" onClick={skip}>
        {t("skip")}
      </a>
      <nav class="sidebar" id="sessions" aria-label={t("sessions")}>
        {/* Behind the frame that first shows the conversation. */}
        <Later weight={0} rank={1}>
          <Sidebar />
        </Later>
      </nav>
      <div
        class="scrim"
        aria-hidden="true"
        onClick={() => {
          page.isDrawerOpen.value = false;
        }}
      />
      <div class="page">
        <Header before={<DrawerButton />}>
          <RulesButton />
          <ContextMeter />
          <CostButton />
          <FindButton />
          <FilesButton />
          <ChangesButton />
          <HeaderParts />
          <HelmButtons />
        </Header>
        <People />
        <Banners />
        <main>
          <Transcript />
          <Composer />
        </main>
      </div>
      <OpenPanel />
      <FilesPlace />
      {overlay.value && <Overlays />}
    </div>
  );
}

/** There once the files of a repository are. */
function ChangesButton() {
  const { chat, isGuest } = useConversation();
  return chat.workspace?.commit && !isGuest ? <TakeOut /> : null;
}

function DrawerButton() {
  const page = usePage();
  return (
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
  );
}

/** What Esc closes without the page's help: dialogs, menus, and lists of choices, if the browser shows these in the page. */
const LISTS = globalThis.CSS?.supports?.("selector(select:open)") ? ", select:open" : "";
const OPEN = `dialog[open], [popover]:popover-open${LISTS}`;

/** Esc closes what is open, else stops the agent. */
function useEscape(): void {
  const page = usePage();
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return;
      if (document.querySelector(OPEN)) return;
      const conversation = page.conversation.value;
      if (page.isDrawerOpen.value) page.isDrawerOpen.value = false;
      else if (page.filing.isOpen.value) page.filing.back();
      else if (page.openPanel.value !== null) page.openPanel.value = null;
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
