/**
 * What waits for the person: said by the browser's title and icon, and on request by a notification and a sound.
 * And what was seen, told to the gateway, so that it is not new on another device either.
 *
 * Guarantees: one event is told once, however many tabs are open, and not at all if a tab that is in sight shows it;
 * nothing of what was said is in a notification but the conversation's title.
 */

import { effect, signal } from "@preact/signals";
import type { SessionSummary } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { f } from "./find-words.ts";
import waitingIcon from "./icon-waiting.svg";
import { type Page, visibility } from "./page.ts";
import { notify, sound, t } from "./preferences.ts";
import { waitingCount } from "./waiting.ts";

/** The list is looked at so often while the page is out of sight. */
const HIDDEN_MS = 20_000;
/** A tab that is in sight says within this time that its person sees it. */
const SEEN_MS = 400;
/** The same of the same conversation is told once in this time: another tab may hear of it so much later. */
const TOLD_MS = 60_000;

type Why = "waits" | "done";

/** Something that happened to a conversation; the same in every tab. */
interface News {
  sessionId: string;
  title: string;
  why: Why;
}

export function watch(page: Page): void {
  const told = new Told();
  const seen = new Map<string, number>();
  const ended = signal<ReadonlySet<string>>(new Set());
  let before = new Map<string, SessionSummary>();
  let wasProcessing = false;

  const icon = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  const usual = icon?.href ?? "";
  effect(() => {
    void page.storeVersion.value;
    void page.chatVersion.value;
    const waiting = new Set(page.store.sessions.filter((row) => row.state === "waiting").map((row) => row.session_id));
    const { sessionId, status } = page.conversation.value;
    if (isAsked(page)) waiting.add(sessionId);
    else if (status === "open") waiting.delete(sessionId);
    waitingCount.value = new Set([...waiting, ...ended.value]).size;
    if (icon && usual) icon.href = waitingCount.value > 0 ? waitingIcon : usual;
  });

  // The conversation on screen is followed event by event, until it is out of sight for a while.
  effect(() => {
    void page.chatVersion.value;
    const conversation = page.conversation.value;
    const { sessionId } = conversation;
    const isOver = wasProcessing && !conversation.isProcessing;
    wasProcessing = conversation.isProcessing;
    const title = titleOf(page, sessionId);
    if (isAsked(page)) tell({ sessionId, title, why: "waits" });
    else if (isOver && visibility.isHidden()) tell({ sessionId, title, why: "done" });
    if (!visibility.isHidden()) see();
  });

  // Of the others, and of itself then, the list says how they are.
  effect(() => {
    void page.storeVersion.value;
    const now = new Map(page.store.sessions.map((row) => [row.session_id, row]));
    const { sessionId, status } = page.conversation.peek();
    for (const [id, row] of before.size > 0 ? now : []) {
      if (id === sessionId && status === "open") continue;
      const was = before.get(id);
      const news = { sessionId: id, title: titleOf(page, id) };
      if (row.state === "waiting" && was?.state !== "waiting") tell({ ...news, why: "waits" });
      else if (row.unread && !was?.unread) tell({ ...news, why: "done" });
    }
    before = now;
    if (!visibility.isHidden()) see();
  });

  visibility.onChange(() => {
    if (visibility.isHidden()) return;
    ended.value = new Set();
    see();
  });
  setInterval(() => {
    if (visibility.isHidden() && page.identity.phase === "inside") void page.store.refresh();
  }, HIDDEN_MS);

  function tell(news: News): void {
    if (visibility.isHidden() && news.why === "done") ended.value = new Set([...ended.peek(), news.sessionId]);
    void told.once(news, () => {
      if (sound.peek()) chime();
      if (notify.peek()) show(page, news);
    });
  }

  /** The person sees the conversation on screen, up to its last event. */
  function see(): void {
    const { chat, sessionId, isProcessing, link } = page.conversation.peek();
    const row = page.store.current;
    if (link !== null || isProcessing || !row?.unread || (seen.get(sessionId) ?? 0) >= chat.seq) return;
    seen.set(sessionId, chat.seq);
    page.store.label(sessionId, { seen_seq: chat.seq }).catch(() => seen.delete(sessionId)); // at the next change again
  }
}

/** Which tab tells of an event: the tabs of a browser hear each other. */
class Told {
  readonly #known = new Map<string, number>();
  readonly #pending = new Set<string>();
  readonly #channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("agw.told");

  constructor() {
    if (this.#channel) this.#channel.onmessage = ({ data }) => this.#known.set(String(data), performance.now());
  }

  /** `say` is called if this tab is the one; a tab that is in sight keeps the others quiet. */
  async once({ sessionId, why }: News, say: () => void): Promise<void> {
    const id = `${sessionId} ${why}`;
    if (this.#isKnown(id) || this.#pending.has(id)) return;
    if (!visibility.isHidden()) return this.#mark(id);
    this.#pending.add(id);
    await new Promise((go) => setTimeout(go, SEEN_MS + Math.random() * SEEN_MS));
    const first = (): void => {
      if (this.#isKnown(id)) return;
      this.#mark(id);
      say();
    };
    if (navigator.locks === undefined) first();
    else {
      await navigator.locks.request(`agw.told ${id}`, { ifAvailable: true }, async (lock) => {
        if (lock === null) return;
        first();
        await new Promise((go) => setTimeout(go, SEEN_MS * 2)); // until the others have heard it
      });
    }
    this.#mark(id);
    this.#pending.delete(id);
  }

  #mark(id: string): void {
    this.#known.set(id, performance.now());
    this.#channel?.postMessage(id);
  }

  #isKnown(id: string): boolean {
    const now = performance.now();
    for (const [known, at] of this.#known) if (now - at > TOLD_MS) this.#known.delete(known);
    return this.#known.has(id);
  }
}

function isAsked(page: Page): boolean {
  return page.conversation.value.mayAnswer && askedId(page) !== null;
}

/** What the conversation on screen asks its person. */
function askedId(page: Page): string | null {
  const { pending_permission: permission, questions, egress } = page.conversation.value.chat;
  return permission?.permission_id ?? questions[0]?.question_id ?? egress?.asked[0]?.ask_id ?? null;
}

function titleOf(page: Page, sessionId: string): string {
  const row = page.store.sessions.find((one) => one.session_id === sessionId);
  return clipped(row?.title || t("untitled"));
}

function show(page: Page, { sessionId, title, why }: News): void {
  if (typeof Notification === "undefined" || Notification.permission !== "granted") return;
  try {
    const shown = new Notification(title, { body: f(why), tag: `${sessionId} ${why}`, icon: waitingIcon });
    shown.onclick = () => {
      window.focus();
      page.store.select(sessionId);
      shown.close();
    };
  } catch {
    // Some phones show notifications only from a service worker.
  }
}

let audio: AudioContext | null = null;

/** Two short notes. A browser in which nothing was clicked yet stays silent. */
function chime(): void {
  try {
    audio ??= new AudioContext();
    const begin = audio.currentTime;
    [660, 880].forEach((hertz, place) => {
      if (audio === null) return;
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      tone.frequency.value = hertz;
      volume.gain.setValueAtTime(0.08, begin + place * 0.16);
      volume.gain.exponentialRampToValueAtTime(0.0001, begin + place * 0.16 + 0.15);
      tone.connect(volume).connect(audio.destination);
      tone.start(begin + place * 0.16);
      tone.stop(begin + place * 0.16 + 0.15);
    });
  } catch {
    // Without sound, then.
  }
}
