import { type NoticeItem, quotaWords } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { noticeWords } from "./notice-words.ts";
import { language } from "./preferences.ts";

const WORDS_MOST = 2_000;

/** What a notice says in the reader's language. */
export function NoticeText({ item }: { item: NoticeItem }) {
  const quota = item.quota && quotaWords(item.quota, "quotaNear", language.value);
  return <>{quota || clipped(noticeWords(item, language.value) ?? item.text, WORDS_MOST)}</>;
}
