/** The page's state: the sessions, the one on screen, and signals that say when they changed. */

import { type Signal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import {
  Api,
  ApiError,
  type Attachment,
  Conversation,
  Identity,
  isVisitor,
  Link,
  memoryStorage,
  type MessageItem,
  sessionIdIn,
  SessionStore,
  tokenIn,
  type Visibility,
  wordsOf,
} from "../core/index.ts";
import { here } from "./address.ts";
import { takeBrand } from "./brand.ts";
import { Filing } from "./filing.ts";
import { DraftFiles } from "./draft-files.ts";
import { overlay } from "./overlay.ts";
import type { PagePart } from "./part.ts";
import { Parts } from "./parts.ts";
import { language, storage, t } from "./preferences.ts";
import { slices } from "./slices.ts";

/** A conversation opens with so many messages; those before are fetched when somebody looks for them. */
const LAST = 50;
/** Whose drafts this browser keeps. */
const OWNER_KEY = "agw.owner";
/** The list of the other conversations waits no longer than this for the messages of the one on screen. */
const LIST_MS = 400;
/** Of what is drawn: behind the messages that are in sight. */
const BEHIND_NEWEST = 500;
/** The sign-in that took a guest's session along has its answer, and this browser its cookie, by then. */
const MOVED_MS = 1000;

export const visibility: Visibility = {
  isHidden: () => document.visibilityState === "hidden",
  onChange(call) {
    document.addEventListener("visibilitychange", call);
    return () => document.removeEventListener("visibilitychange", call);
  },
};

export class Page {
  readonly api: Api;
  readonly identity: Identity;
  /** Moves when it became known who this is, or changed. */
  readonly identityVersion = signal(0);
  /** A guest wants to sign in. */
  readonly isSigningIn = signal(false);
  /** The token of a link that signs this browser in, until the person has decided. */
  readonly handover = signal<string | null>(null);
  /** The token of a link to somebody else's session; then the page is nothing else. */
  readonly shared: string | null;
  /** The link itself. */
  readonly link: Link | null;
  /** Moves when more is known of the link, or its holder has another name. */
  readonly linkVersion = signal(0);
  readonly store: SessionStore;
  /** Moves when the store changed. */
  readonly storeVersion = signal(0);
  readonly conversation: Signal<Conversation>;
  /** Moves when the conversation changed, at most once a frame. */
  readonly chatVersion = signal(0);
  readonly isDrawerOpen = signal(false);
  /** The parts of the applications that the gateway runs. */
  readonly parts = signal<readonly PagePart[]>([]);
  /** The part whose panel is open. */
  readonly openPanel = signal<PagePart | null>(null);
  /** The panel of files. */
  readonly filing = new Filing();
  readonly announcement = signal("");
  readonly toast = signal("");

  readonly #parts: Parts;
  /** By the session whose draft they are of. */
  readonly #files = new Map<string, DraftFiles>();
  #loading: Promise<void> | null = null;
  #stopListening: () => void = () => undefined;
  #isInside = false;
  #owner: string | null = null;
  #isDue = false;
  #lastSeen = "";

  constructor(builtIn: readonly PagePart[] = []) {
    const baseUrl = new URL(".", document.baseURI).href;
    this.#parts = new Parts({ builtIn, baseUrl });
    this.shared = tokenIn(location.hash, "shared");
    this.handover.value = tokenIn(location.hash, "handover");
    this.api = new Api({
      baseUrl,
      onUnauthorized: () => this.identity.lost(),
      onMoved: () => setTimeout(() => this.#askAgain(), MOVED_MS),
    });
    this.identity = new Identity({ api: this.api, confirm: () => this.#confirm() });
    this.link = this.shared === null ? null : new Link({ api: this.api, token: this.shared, storage });
    const kept = this.shared === null ? storage : memoryStorage();
    this.store = new SessionStore({ api: this.api, storage: kept, hash: location.hash });
    this.conversation = signal(this.#open(this.store.currentId));
    this.#listen();
    if (this.shared === null) this.#writeHash(true);
  }

  start(): void {
    if (this.link !== null) {
      void this.link.load().then(() => this.conversation.value.start());
      void this.api.authState().then(({ page }) => takeBrand(page), () => undefined);
    } else void this.identity.start();
  }

  /** Listens to what the browser and the core say. */
  #listen(): void {
    window.addEventListener("hashchange", () => this.#addressChanged());
    window.addEventListener("online", () => this.conversation.value.retryNow());
    this.link?.subscribe(() => {
      this.linkVersion.value += 1;
      this.chatVersion.value += 1;
    });
    if (this.shared !== null) return;
    this.store.subscribe(() => this.#storeChanged());
    this.identity.subscribe(() => this.#identityChanged());
    document.addEventListener("visibilitychange", () => {
      if (visibility.isHidden()) return;
      // The person may have signed in or out in another tab.
      if (this.identity.phase !== "asking") void this.identity.check();
      if (this.#isInside) void this.store.refresh();
    });
  }

  /** Lets the provider confirm the sign-in; of several tabs the one that is seen, which asks again when it is. */
  #confirm(): void {
    if (visibility.isHidden()) return;
    const { sessionId, outgoing } = this.conversation.value;
    // What was refused is written again when the person comes back: it is not lost with this page.
    for (const message of [...outgoing].reverse())
      if (message.error !== null) {
        this.store.takeBack(sessionId, message.text, message.attachments);
        this.conversation.value.discard(message.key);
      }
    location.assign(this.api.confirmUrl(here()));
  }

  /** In another tab this guest has signed in. */
  #askAgain(): void {
    if (this.shared === null && this.identity.me?.kind === "visitor") void this.identity.check();
  }

  #addressChanged(): void {
    const isOther = tokenIn(location.hash, "shared") !== this.shared || tokenIn(location.hash, "handover") !== null;
    if (isOther) return location.reload();
    const id = sessionIdIn(location.hash);
    if (id !== null) this.store.select(id);
  }

  // -- who is here --------------------------------------------------------------------------------------------

  async signOut(everywhere: boolean): Promise<void> {
    try {
      await this.identity.signOut(everywhere);
    } catch (error) {
      return this.tellWhy(error);
    }
    if (this.#isInside) return; // as a guest, who began afresh
    this.#owner = null;
    storage.removeItem(OWNER_KEY);
    this.#forget();
  }

  #identityChanged(): void {
    takeBrand(this.identity.look);
    const { phase, owner, applications } = this.identity;
    const isInside = phase === "inside";
    if (isInside && !this.#parts.isComplete(applications)) {
      this.#loading ??= this.#loadParts(applications).finally(() => (this.#loading = null));
      return;
    }
    if (isInside) this.parts.value = this.#parts.shown(applications);
    if (isInside && owner !== null) this.#enter(owner);
    else if (this.#isInside) this.#leave();
    this.identityVersion.value += 1;
  }

  /** The conversation begins once the modules of other applications are here: they fold it from its first event. */
  async #loadParts(applications: unknown): Promise<void> {
    const failed = await this.#parts.load(applications);
    if (failed.length > 0) this.tell(t("partFailed", { names: failed.join(", ") }));
    this.#reopen(false);
    this.#identityChanged();
  }

  #enter(owner: string): void {
    const before = this.#owner ?? storage.getItem(OWNER_KEY);
    this.#owner = owner;
    storage.setItem(OWNER_KEY, owner);
    this.isSigningIn.value = false;
    if (this.#isInside && owner === before) return;
    this.#isInside = true;
    // Who signs in gets what the guest had, and goes on in the middle of it; anybody else begins afresh.
    if (before === null || before === owner) void this.conversation.value.resume();
    else if (isVisitor(before)) this.#reopen(true);
    else this.#forget();
    this.#listOthers();
  }

  /** The list of the others is asked for behind the newest messages of this one, if these come soon. */
  #listOthers(): void {
    let isDue = true;
    const start = (): void => {
      if (isDue && this.#isInside) this.store.start(() => !visibility.isHidden());
      isDue = false;
      stop();
    };
    const conversation = this.conversation.value;
    const stop = conversation.subscribe(() => {
      if (conversation.status !== "connecting") slices.later(0, start, BEHIND_NEWEST);
    });
    setTimeout(start, LIST_MS);
  }

  /** Nothing of the person before is seen by the next one. */
  #forget(): void {
    for (const files of this.#files.values()) files.clear();
    this.#files.clear();
    overlay.value = null;
    this.store.forget();
  }

  #leave(): void {
    this.#isInside = false;
    this.announcement.value = "";
    overlay.value = null;
    this.store.stop();
    this.conversation.value.stop();
  }

  /** Sends to the conversation on screen, with the agent that was chosen for it. */
  send(text: string, attachments: readonly Attachment[] = []): Promise<void> {
    return this.conversation.value.send(text, attachments);
  }

  /** Keeps a draft that another tab removed, unless somebody else is here by now. */
  keepDraft(sessionId: string, text: string): void {
    const isOwn = this.#owner !== null && storage.getItem(OWNER_KEY) === this.#owner;
    if (text && isOwn && !this.store.draft(sessionId)) this.store.setDraft(sessionId, text);
  }

  /** The files of a session's draft. */
  draftFiles(sessionId: string): DraftFiles {
    let files = this.#files.get(sessionId);
    if (files === undefined) {
      files = new DraftFiles({
        api: this.api,
        store: this.store,
        sessionId,
        ensure: () => this.conversation.value.ensure(),
        say: (text) => this.say(text),
      });
      this.#files.set(sessionId, files);
    }
    return files;
  }

  /**
   * Goes another way from before a message: in a new conversation, which is shown then, with this text. Throws if
   * there is none; nothing has changed then.
   */
  async branch(message: MessageItem, text: string, agent?: string): Promise<void> {
    const { sessionId } = this.conversation.value;
    const answer = await this.api.fork(sessionId, { before_message: message.id, ...(agent !== undefined && { agent }) });
    this.store.select(answer.session.session_id);
    void this.store.refresh();
    if (answer.files === "now") this.tell(t("branchFilesNow"));
    else if (answer.missing > 0) this.tell(t("branchFilesMissing", { n: answer.missing }));
    await this.send(text, message.attachments);
  }

  /** A new conversation of everything up to here, or before a message; it is shown then. Throws if there is none. */
  async fork(before?: string): Promise<void> {
    const { sessionId } = this.conversation.value;
    const { session } = await this.api.fork(sessionId, before === undefined ? {} : { before_message: before });
    this.store.select(session.session_id);
    void this.store.refresh();
    this.tell(t("forked"));
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

  /** Takes the name that somebody with a link typed; the others see it from now on. */
  async takeName(name: string): Promise<void> {
    if (!(await this.link?.takeName(name))) return;
    this.conversation.value.stop();
    this.conversation.value.start();
  }

  /** Says in words why something did not succeed. */
  tellWhy(error: unknown): void {
    this.tell(error instanceof ApiError ? wordsOf(error, language.value) : String(error));
  }

  #open(sessionId: string): Conversation {
    const { chosenAgent: agent, chosenWorkspace: workspace } = this.store;
    const conversation = new Conversation({
      api: this.api,
      sessionId,
      visibility,
      folds: this.#parts.folds,
      outbox: this.store.outbox(sessionId),
      ...(!this.#parts.needsWholeLog && { last: LAST }),
      onRefused: (text, error, attachments) => {
        this.store.takeBack(sessionId, text, attachments);
        this.#files.delete(sessionId);
        this.tell(`${t("notSent")}: ${wordsOf(error, language.value)}`);
      },
      ...(agent !== null && { agent }),
      ...(workspace !== null && { workspace }),
      ...(this.link !== null && { link: this.link }),
    });
    this.#stopListening = conversation.subscribe(() => {
      if (conversation.status === "open") void this.link?.load();
      this.#schedule();
    });
    return conversation;
  }

  #storeChanged(): void {
    const shown = this.conversation.value;
    const isOther = shown.sessionId !== this.store.currentId;
    const { chosenAgent, chosenWorkspace } = this.store;
    const isChosen = shown.agent === chosenAgent && shown.workspace === chosenWorkspace;
    if (isOther || !isChosen) this.#reopen(isOther);
    this.storeVersion.value += 1;
    this.#refreshIfMoved();
  }

  #reopen(isOther: boolean): void {
    if (!isOther && this.conversation.value.chat.seq > 0) return;
    this.#stopListening();
    this.conversation.value.stop();
    const next = this.#open(this.store.currentId);
    this.conversation.value = next;
    this.#lastSeen = "";
    if (this.#isInside) next.start();
    this.#writeHash(false);
    this.#schedule();
  }

  #writeHash(isFirst: boolean): void {
    if (this.handover.peek() !== null) history.replaceState(null, "", location.pathname);
    if (sessionIdIn(location.hash) === this.store.currentId) return; // the address may say which message, too
    const hash = `#s=${encodeURIComponent(this.store.currentId)}`;
    if (isFirst) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
  }

  /** Many events a frame make one drawing; a timer helps where frames are not given. */
  #schedule(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const once = (): void => void (this.#isDue && this.draw());
    requestAnimationFrame(once);
    setTimeout(once, 120);
  }

  /** Draws the conversation now, and not with the next frame. */
  draw(): void {
    this.#isDue = false;
    this.chatVersion.value += 1;
    this.#refreshIfMoved();
  }

  /** The list shows state and title, so it is read again when those moved here, or the session is new to it. */
  #refreshIfMoved(): void {
    if (!this.store.hasLoaded) return; // it is being read for the first time
    const { chat, status } = this.conversation.value;
    // That it ends is told before it is gone from the list; by the end of the stream it is.
    const ended = chat.ended && `${chat.ended.reason} ${status}`;
    const seen = chat.seq === 0 ? "" : `${chat.state} ${chat.title ?? ""} ${ended}`;
    const isNews = seen !== "" && seen !== this.#lastSeen;
    const hasMoved = this.#lastSeen !== "" || this.store.current === undefined;
    if (isNews && hasMoved && this.#isInside) void this.store.refresh();
    this.#lastSeen = seen;
  }
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

/** Who is here; the component draws again when that changes. */
export function useIdentity(): Identity {
  const page = usePage();
  void page.identityVersion.value;
  return page.identity;
}

/** The link by which the conversation is followed; the component draws again when more is known of it. */
export function useLink(): Link | null {
  const page = usePage();
  void page.linkVersion.value;
  return page.link;
}

export function useStore(): SessionStore {
  const page = usePage();
  void page.storeVersion.value;
  return page.store;
}

/** True if the conversation's agent has no model; null while that is not known. */
export function useIsOffline(): boolean | null {
  const store = useStore();
  const conversation = useConversation();
  const name = conversation.chat.agent ?? store.chosenAgent ?? store.defaultAgent?.name;
  const agent = store.agents.find((one) => one.name === name);
  return agent ? agent.missing_api_key : conversation.missingApiKey;
}
