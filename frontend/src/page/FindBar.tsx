import "./find.css";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ConversationSearch, type Found, patternOf, textOf } from "../core/index.ts";
import { toComposer } from "./asking.ts";
import { Icon } from "./icons.tsx";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";
import { isFinding, revealed } from "./reveal.ts";
import { itemOf, rangesIn, show } from "./showing.ts";
import { typedMeanwhile } from "./typeahead.ts";

/** Typing goes on for so long before a search begins. */
const TYPING_MS = 150;

/** Searches the whole conversation, also what is not drawn or not here yet, and shows each place. */
export function FindBar() {
  const conversation = useConversation();
  const field = useRef<HTMLInputElement>(null);
  const [words, setWords] = useState("");
  const [place, setPlace] = useState(0);
  const search = useSearch(words);
  const { found } = search;
  const current = found[place];
  useLayoutEffect(() => {
    field.current?.focus();
    setWords(typedMeanwhile());
  }, []);
  useEffect(() => {
    return () => {
      revealed.value = null;
      mark([], null);
    };
  }, []);
  useEffect(() => setPlace(0), [search]);
  useEffect(() => {
    if (current === undefined) return mark([], null);
    const item = conversation.chat.items.find((one) => one.id === current.id && one.kind === current.kind);
    void show({ ...current }, item ? textOf(item) : "", words).then((range) => mark(allOf(current, words), range));
    return undefined;
  }, [current?.kind, current?.id, current?.at]);
  const close = (): void => {
    isFinding.value = false;
    toComposer();
  };
  const go = (step: number): void => {
    if (found.length > 0) setPlace((place + step + found.length) % found.length);
  };
  return (
    <search class="find" data-testid="find">
      <input
        ref={field}
        class="field"
        type="search"
        dir="auto"
        data-testid="find-field"
        aria-label={t("find")}
        placeholder={t("find")}
        value={words}
        onInput={(event) => setWords(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
          else if (event.key === "Escape") close();
          else return;
          event.preventDefault();
        }}
      />
      <output class="quiet" data-testid="find-count" aria-live="polite">
        {countWords(search, words, place)}
      </output>
      <button type="button" class="icon-button" aria-label={t("findEarlier")} title={t("findEarlier")} onClick={() => go(1)}>
        <Icon name="down" class="is-up" />
      </button>
      <button type="button" class="icon-button" aria-label={t("findLater")} title={t("findLater")} onClick={() => go(-1)}>
        <Icon name="down" />
      </button>
      <button type="button" class="icon-button" data-testid="find-close" aria-label={t("close")} onClick={close}>
        <Icon name="close" />
      </button>
    </search>
  );
}

function countWords(search: ConversationSearch, words: string, place: number): string {
  if (words.trim() === "") return "";
  const all = `${search.found.length}${search.isDone && !search.isPart ? "" : "+"}`;
  if (search.found.length > 0) return t("findCount", { n: place + 1, all });
  return t(search.isDone ? "findNothing" : "findSearching");
}

/** A search for the words that were typed last. */
function useSearch(words: string): ConversationSearch {
  const conversation = useConversation();
  const [, draw] = useState(0);
  const made = (text: string): ConversationSearch =>
    new ConversationSearch({
      words: text,
      items: () => conversation.chat.items,
      earlier: conversation.earlier,
      rest: () => new Promise((go) => setTimeout(go)),
      changed: () => draw((times) => times + 1),
    });
  const [search, setSearch] = useState(() => made(""));
  useEffect(() => {
    const next = made(words);
    const timer = setTimeout(() => {
      setSearch(next);
      void next.run();
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      next.stop();
    };
  }, [words, conversation]);
  return search;
}

function allOf(place: Found, words: string): Range[] {
  const pattern = patternOf(words);
  const item = itemOf(place);
  return item && pattern ? rangesIn(item, pattern) : [];
}

/** Colours what was found without changing what is drawn; a browser that cannot shows it selected. */
function mark(all: readonly Range[], current: Range | null): void {
  if (typeof Highlight === "undefined") {
    const selection = document.getSelection();
    if (current === null) return;
    selection?.removeAllRanges();
    selection?.addRange(current);
    return;
  }
  CSS.highlights.set("found", new Highlight(...all));
  CSS.highlights.set("found-here", new Highlight(...(current ? [current] : [])));
}
