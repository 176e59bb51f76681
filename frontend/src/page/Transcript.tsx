import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Conversation, Item, MessageItem, PermissionItem } from "../core/index.ts";
import { useAddressedMessage } from "./addressed.ts";
import { answersOf } from "./asked.ts";
import { EarlierRow, useKeptPlace } from "./Earlier.tsx";
import { useFileLinks } from "./FilesButton.tsx";
import { Guard } from "./Guard.tsx";
import { Icon } from "./icons.tsx";
import { fetchMarkdown, ItemView, OutgoingMessage } from "./Items.tsx";
import { lazily } from "./lazy.tsx";
import { askedFor, drawn, toldBy } from "./order.ts";
import { useConversation, usePage } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";
import { Runs } from "./Runs.tsx";
import { useReadingKeys } from "./reading-keys.ts";
import { isFinding, revealed, wholeId } from "./reveal.ts";
import { seeNow } from "./nearness.ts";
import { slices } from "./slices.ts";
import { Stretch } from "./Stretch.tsx";
import { NO_STRETCHES, numbered, ranksOf } from "./stretches.ts";
import { isNews } from "./toolparts.ts";
import { Welcome } from "./Welcome.tsx";

const AwayPermission = lazily(() => import("./Permission.tsx").then((loaded) => loaded.AwayPermission));
const Failed = lazily(() => import("./FailureCard.tsx").then((loaded) => loaded.FailureCard), FailedPlainly);
const FindBar = lazily(() => import("./FindBar.tsx").then((loaded) => loaded.FindBar));
const Wallet = lazily(() => import("./Wallet.tsx").then((loaded) => loaded.Wallet));

/** Closer to the end than this, the reader wants to stay there. */
const NEAR_END_PX = 64;

/** What moves so long after the reader's wheel, finger or key is moved by the reader. */
const READER_MS = 1_000;

/** So many stretches at the end are always drawn. */
const NEWEST = 2;

export function Transcript() {
  const page = usePage();
  const conversation = useConversation();
  const scroller = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const isSticking = useRef(true);
  useFileLinks(inner);
  const lastTop = useRef(0);
  const lastHeight = useRef(0);
  const readerAt = useRef(-READER_MS);
  const [isAway, setAway] = useState(false);
  const [isOpenAway, setOpenAway] = useState(false);
  const [, setRound] = useState(0);
  const openId = useRef<string | undefined>(undefined);
  const cut = useRef(NO_STRETCHES);
  const cutOf = useRef(conversation);
  const draw = useRef<(items: readonly Item[]) => ComponentChildren>(null);
  const shownOnes = useRef(new Set<Item>());
  const boxes = useRef(new WeakMap<readonly Item[], VNode>());
  const isWhole = wholeId.value === conversation.sessionId;
  const shown = revealed.value;
  const isShown = (item: Item): boolean => item.id === shown?.id && item.kind === shown.kind;

  /** There is a welcome, which is read from its beginning, and no end yet. */
  const isNew = conversation.chat.items.length === 0 && conversation.outgoing.length === 0;
  const hasEnd = useRef(false);
  hasEnd.current = !isNew;
  const toEnd = (behavior: ScrollBehavior = "instant"): void => {
    const box = scroller.current;
    isSticking.current = true;
    setAway(false);
    box?.scrollTo({ top: hasEnd.current ? box.scrollHeight : 0, behavior });
  };
  const onScroll = (): void => {
    const box = scroller.current;
    if (!box) return;
    // What grew since this scroll was asked for is nothing that the reader did: only a way up lets go of the end. Nor
    // is a way up that the browser makes, because what is above is drawn and is less tall than was thought.
    const isByReader = box.scrollHeight === lastHeight.current || performance.now() - readerAt.current < READER_MS;
    const isUp = box.scrollTop < lastTop.current - 1 && isByReader;
    if (Math.abs(box.scrollTop - lastTop.current) > box.clientHeight / 2) slices.hurry(() => seeNow(box));
    lastTop.current = box.scrollTop;
    lastHeight.current = box.scrollHeight;
    const isNearEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    isSticking.current = isNearEnd || (isSticking.current && !isUp) || !hasEnd.current;
    setAway(!isSticking.current);
    look();
  };
  const letGo = (): void => {
    isSticking.current = false;
    setAway(true);
  };
  const wantsBeginning = useRef(false);
  useReadingKeys(conversation, () => {
    wantsBeginning.current = true;
    setRound((round) => round + 1);
  });
  // What is looked for is held in sight, and not the end.
  useLayoutEffect(() => {
    if (shown !== null) letGo();
  }, [shown]);
  const byReader = (): void => {
    readerAt.current = performance.now();
  };
  const look = (): void => setOpenAway(isCardAway(scroller.current, openId.current));

  // Whatever grows, text or a picture that arrived late: who was at the end stays there.
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      const box = scroller.current;
      if (isSticking.current && hasEnd.current && box) {
        box.scrollTo({ top: box.scrollHeight, behavior: "instant" });
        // Known at once: whoever goes up before the browser tells of this goes up from here.
        lastTop.current = box.scrollTop;
        lastHeight.current = box.scrollHeight;
      }
      look();
    });
    if (inner.current) observer.observe(inner.current);
    if (scroller.current) observer.observe(scroller.current);
    return () => observer.disconnect();
  }, []);
  const isEmpty = conversation.chat.seq === 0 && conversation.outgoing.length === 0;
  // If there is nothing yet, what comes is followed: asking for its height now would lay the page out before its time.
  useLayoutEffect(() => {
    isSticking.current = true;
    setAway(false);
    if (!isEmpty) toEnd();
  }, [conversation.sessionId, conversation.outgoing.length]);
  useEffect(() => void (isEmpty || fetchMarkdown().catch(() => undefined)), [isEmpty]);
  const version = page.chatVersion.value;
  useAnnouncements(conversation, version, page.say.bind(page));

  // What looks at every item is done when the conversation has changed, and not when something is sought or scrolled.
  const { items, asked, inCards, answers, cutItems, open, heavy, asking } = useMemo(() => {
    if (cutOf.current !== conversation) cut.current = NO_STRETCHES;
    cutOf.current = conversation;
    const items = drawn(conversation.chat.items, conversation.chat.waiting);
    // Somebody who may not answer sees no card, and so the call in its own place.
    const asked = conversation.mayAnswer ? askedFor(items) : new Map<string, never>();
    const answers = answersOf(items);
    const answered = new Set<Item>(answers.values());
    cut.current = numbered(items.filter((item) => !answered.has(item)), cut.current);
    return {
      items,
      asked,
      inCards: new Set<Item>(asked.values()),
      answers,
      cutItems: cut.current,
      open: conversation.mayAnswer ? items.find(isWaiting) : undefined,
      heavy: isHeavy(items),
      asking: new Set(cut.current.stretches.filter((stretch) => stretch.some(isAsking))),
    };
  }, [conversation, version, conversation.mayAnswer]);
  openId.current = open?.id;
  useEffect(look, [open?.id]);
  // A failure is said once: by its card until something else goes on, and then by the log's own line.
  const hasFailed = conversation.chat.failure !== null && !conversation.isProcessing && conversation.outgoing.length === 0;
  const told = hasFailed ? toldBy(items, conversation.chat.failure) : undefined;
  const { first, stretches } = cutItems;
  const ranks = ranksOf(stretches.slice(-NEWEST));
  useKeptPlace(conversation, scroller);
  useLayoutEffect(() => {
    if (!wantsBeginning.current) return;
    wantsBeginning.current = false;
    letGo();
    scroller.current?.scrollTo({ top: 0, behavior: "instant" });
  });
  useAddressedMessage(conversation);
  const isApart = (item: Item) => inCards.has(item) || isNews(item, answers.get(item.id));
  const drawItem = (item: Item) => (
    <div
      key={`${item.kind} ${item.id}`}
      data-item={`${item.kind} ${item.id}`}
      class={`item item-${item.kind}`}
      hidden={isBlank(item) || inCards.has(item)}
    >
      <Guard item={item} along={asked.get(item.id) ?? answers.get(item.id)} rank={ranks.get(item)}>
        {item === told ? (
          <Failed conversation={conversation} />
        ) : (
          <ItemView item={item} call={asked.get(item.id)} answer={answers.get(item.id)} />
        )}
      </Guard>
    </div>
  );
  draw.current = (stretch) => (
    <Runs items={stretch} isWhole={isWhole} isSought={isShown} isApart={isApart} draw={drawItem} />
  );
  // One that is out of sight, as it was, is not looked at again: there may be hundreds.
  const drawStretch = (stretch: readonly Item[], place: number): VNode => {
    const isHeld = isWhole || place >= stretches.length - NEWEST || asking.has(stretch) || (shown !== null && stretch.some(isShown));
    const known = boxes.current.get(stretch);
    if (known && !isHeld && !shownOnes.current.has(stretch[0] as Item)) return known;
    const box = (
      <Stretch
        key={`${conversation.sessionId} ${first + place}`}
        items={stretch}
        scroller={scroller}
        isHeld={isHeld}
        draw={draw}
        shown={shownOnes.current}
      />
    );
    if (isHeld) boxes.current.delete(stretch);
    else boxes.current.set(stretch, box);
    return box;
  };
  return (
    <div class="transcript">
      <div
        class="scroller"
        ref={scroller}
        onScroll={onScroll}
        onWheel={byReader}
        onTouchMove={byReader}
        onKeyDown={byReader}
        onPointerDown={byReader}
        onPointerMove={(event) => event.buttons !== 0 && byReader()}
      >
        <div
          class={heavy ? "inner is-heavy" : "inner"}
          ref={inner}
          role="log"
          aria-live="off"
          aria-label={t("conversation")}
          data-testid="transcript"
        >
          {isNew && (conversation.isGuest ? <NothingYet conversation={conversation} /> : <Welcome />)}
          <EarlierRow
            earlier={conversation.earlier}
            count={conversation.earlier.count}
            isLoading={conversation.earlier.isLoading}
            error={conversation.earlier.error}
            scroller={scroller}
          />
          {stretches.map(drawStretch)}
          {conversation.outgoing.map((message) => (
            <OutgoingMessage key={message.key} message={message} isSentLater={conversation.isSentLater(message)} />
          ))}
          <Tail conversation={conversation} items={items} hasFailed={hasFailed && told === undefined} />
        </div>
      </div>
      {isFinding.value && <FindBar />}
      {open && isOpenAway && <AwayPermission item={open} show={() => showCard(scroller.current, open.id)} />}
      {isAway && !isOpenAway && (
        <button type="button" class="latest" data-testid="jump-latest" onClick={() => toEnd("smooth")}>
          <Icon name="down" />
          {t("latest")}
        </button>
      )}
    </div>
  );
}

/** Anybody who is asked something finds it, wherever the reader is. */
function isAsking(item: Item): boolean {
  if (item.kind === "egress_asked") return item.answer === null;
  return (item.kind === "permission" || item.kind === "question") && item.outcome === null;
}

function isWaiting(item: Item): item is PermissionItem {
  return item.kind === "permission" && item.outcome === null && item.options !== undefined;
}

function cardOf(box: HTMLElement | null, id: string): HTMLElement | null {
  return box?.querySelector<HTMLElement>(`[data-permission="${CSS.escape(id)}"]`) ?? null;
}

function showCard(box: HTMLElement | null, id: string): void {
  const card = cardOf(box, id);
  card?.scrollIntoView({ block: "end" });
  card?.focus({ preventScroll: true });
}

/** Of a card that is in sight, so much is. */
const CARD_SEEN_PX = 24;

/** Whether a permission waits whose card is out of sight in the scroller. */
function isCardAway(box: HTMLElement | null, id: string | undefined): boolean {
  const card = id === undefined ? null : cardOf(box, id);
  if (!card || !box) return false;
  const place = card.getBoundingClientRect();
  const frame = box.getBoundingClientRect();
  return place.top > frame.bottom - CARD_SEEN_PX || place.bottom < frame.top + CARD_SEEN_PX;
}

/** Characters from which on things out of sight are not laid out; a tool call counts as so many. */
const HEAVY = 300_000;
const TOOL_CALL = 3_000;

/** True if there is so much that a browser takes long to lay it out. */
function isHeavy(items: readonly Item[]): boolean {
  let weight = 0;
  for (const item of items) weight += "text" in item ? item.text.length : TOOL_CALL;
  return weight > HEAVY;
}

/** An agent's message without a word, and a system message without one, take no room. */
function isBlank(item: Item): boolean {
  return item.kind === "message" && item.sender !== "user" && item.text === "";
}

function lastShown(items: readonly Item[]): Item | undefined {
  let at = items.length - 1;
  while (at >= 0 && isBlank(items[at] as Item)) at -= 1;
  return items[at];
}

/** What is drawn below the last item: work in progress, a failure that no item tells of, a transaction. */
function Tail({ conversation, items, hasFailed }: { conversation: Conversation; items: Item[]; hasFailed: boolean }) {
  const { chat } = conversation;
  const last = lastShown(items);
  const isTexting = last?.kind === "message" && last.sender === "agent" && last.is_streaming;
  const isAsking =
    chat.pending_permission !== null || chat.questions.length > 0 || (chat.egress?.asked.length ?? 0) > 0;
  return (
    <>
      {chat.wallet !== null && !conversation.isGuest && <Wallet transaction={chat.wallet} />}
      {conversation.isProcessing && !isTexting && !isAsking && (
        <p class="working" data-testid="working" role="status">
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {wordsOfWork(conversation)}
        </p>
      )}
      {hasFailed && <Failed conversation={conversation} />}
    </>
  );
}

/** What the agent is about, or how long it is until there is one. */
function wordsOfWork({ chat, isStopping }: Conversation): string {
  if (isStopping) return t("stopping");
  if (chat.start_position !== null) {
    const place = String(chat.start_position);
    return t(chat.start_short_of ? "inLineForMemory" : "inLine", { place });
  }
  return t(chat.state === "starting" ? "starting" : "working");
}

/** Why it failed, until its card is here. */
function FailedPlainly({ conversation }: { conversation: Conversation }) {
  return (
    <p class="notice notice-error" dir="auto">
      {clipped(conversation.chat.failure?.message ?? "")}
    </p>
  );
}

function NothingYet({ conversation }: { conversation: Conversation }) {
  if (conversation.status !== "open") return null;
  return <p class="quiet">{t("sharedEmpty")}</p>;
}

/** Announces each of the agent's messages once it is finished, if it finished while the page was open. */
function useAnnouncements(conversation: Conversation, version: number, say: (text: string) => void): void {
  const growing = useRef(new Set<string>());
  useEffect(() => {
    const messages = conversation.chat.items.filter(
      (item): item is MessageItem => item.kind === "message" && item.sender === "agent",
    );
    for (const message of messages) {
      if (message.is_streaming) growing.current.add(message.id);
      else if (growing.current.delete(message.id) && message.text)
        say(t("saidAgent", { text: message.text.slice(0, 1500) }));
    }
  }, [conversation, version]);
}
