/** What the page is about: the sessions, the one on screen, and signals that say when they changed. */

import { type Signal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { Api, Conversation, sessionIdIn, SessionStore, type Visibility } from "../core/index.ts";
import { storage } from "./preferences.ts";

export const KEY_KEY = "agw.key";

const visibility: Visibility = {
  isHidden: () => document.visibilityState === "hidden",
  onChange(call) {
    document.addEventListener("visibilitychange", call);
    return () => document.removeEventListener("visibilitychange", call);
  },
};

export class Page {
  readonly api: Api;
  readonly store: SessionStore;
  /** Moves when the store changed. */
  readonly storeVersion = signal(0);
  readonly conversation: Signal<Conversation>;
  /** Moves when the conversation changed, at most once a frame. */
  readonly chatVersion = signal(0);
  readonly isDrawerOpen = signal(false);
  readonly announcement = signal("");
  readonly toast = signal("");

  #stopListening: () => void = () => undefined;
  #isDue = false;
  #lastSeen = "";

  constructor() {
    const baseUrl = new URL(".", document.baseURI).href;
    this.api = new Api({ baseUrl, headers: () => authorization() });
    this.store = new SessionStore({ api: this.api, storage, hash: location.hash });
    this.conversation = signal(this.#open(this.store.currentId));
    this.store.subscribe(() => this.#storeChanged());
    window.addEventListener("hashchange", () => {
      const id = sessionIdIn(location.hash);
      if (id !== null) this.store.select(id);
    });
    document.addEventListener("visibilitychange", () => {
      if (!visibility.isHidden()) void this.store.refresh();
    });
    window.addEventListener("online", () => this.conversation.value.retryNow());
    this.#writeHash(true);
  }

  start(): void {
    this.conversation.value.start();
    this.store.start(() => !visibility.isHidden());
  }

  /** Sends to the conversation on screen, with the agent that was chosen for it. */
  send(text: string): Promise<void> {
    return this.conversation.value.send(text);
  }

  /** Takes an access key and tries everything again. It is forgotten with the tab. */
  useKey(key: string): void {
    sessionStorage.setItem(KEY_KEY, key);
    this.conversation.value.start();
    void this.store.refresh();
  }

  say(text: string): void {
    this.announcement.value = text;
  }

  tell(text: string): void {
    this.toast.value = text;
    setTimeout(() => {
      if (this.toast.peek() === text) this.toast.value = "";
    }, 5000);
  }

  #open(sessionId: string): Conversation {
    const agent = this.store.chosenAgent;
    const conversation = new Conversation({
      api: this.api,
      sessionId,
      visibility,
      ...(agent !== null && { agent }),
    });
    this.#stopListening = conversation.subscribe(() => this.#schedule());
    return conversation;
  }

  #storeChanged(): void {
    const shown = this.conversation.value;
    const isOther = shown.sessionId !== this.store.currentId;
    if (isOther || shown.agent !== this.store.chosenAgent) this.#reopen(isOther);
    this.storeVersion.value += 1;
  }

  #reopen(isOther: boolean): void {
    if (!isOther && this.conversation.value.chat.seq > 0) return;
    this.#stopListening();
    this.conversation.value.stop();
    const next = this.#open(this.store.currentId);
    this.conversation.value = next;
    this.#lastSeen = "";
    next.start();
    this.#writeHash(false);
    this.#schedule();
  }

  #writeHash(isFirst: boolean): void {
    const hash = `#s=${encodeURIComponent(this.store.currentId)}`;
    if (location.hash === hash) return;
    if (isFirst) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
  }

  /** Many events a frame make one drawing; a timer helps where frames are not given. */
  #schedule(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const draw = (): void => {
      if (!this.#isDue) return;
      this.#isDue = false;
      this.chatVersion.value += 1;
      this.#refreshIfMoved();
    };
    requestAnimationFrame(draw);
    setTimeout(draw, 120);
  }

  /** The list shows state and title, so it is read again when those moved here. */
  #refreshIfMoved(): void {
    const { chat } = this.conversation.value;
    const seen = chat.seq === 0 ? "" : `${chat.state} ${chat.title ?? ""} ${chat.ended?.reason ?? ""}`;
    if (seen !== "" && this.#lastSeen !== "" && seen !== this.#lastSeen) void this.store.refresh();
    this.#lastSeen = seen;
  }
}

export function authorization(): Record<string, string> {
  const key = sessionStorage.getItem(KEY_KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

const PageContext = createContext<Page | null>(null);
export const PageProvider = PageContext.Provider;

export function usePage(): Page {
  const page = useContext(PageContext);
  if (!page) throw new Error("No page around this component.");
  return page;
}

/** The conversation on screen; the component draws again when it changes. */
export function useConversation(): Conversation {
  const page = usePage();
  void page.chatVersion.value;
  return page.conversation.value;
}

export function useStore(): SessionStore {
  const page = usePage();
  void page.storeVersion.value;
  return page.store;
}
