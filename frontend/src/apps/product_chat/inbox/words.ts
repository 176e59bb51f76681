/** The inbox's texts, in both languages. */

import { filled, type Language, type Params, preferred } from "../../../core/language.ts";
import { SafeStorage } from "../client/sessions.ts";

const en = {
  inbox: "Inbox",
  name: "Name",
  password: "Password",
  logIn: "Log in",
  logOut: "Log out",
  filters: "Show",
  chats: "Conversations",
  search: "Search names and messages",
  all: "All",
  waiting: "Waiting",
  urgent: "Urgent",
  mine: "Mine",
  active: "With the agent",
  pending: "Pending",
  in_progress: "With a person",
  resolved: "Resolved",
  closed: "Closed",
  none: "No conversations here.",
  more: "Show more conversations",
  choose: "Choose a conversation.",
  visitor: "Visitor",
  agent: "Assistant",
  you: "You",
  spam: "looks like spam",
  unread: "{count} unread",
  waits: "waiting for {time}",
  typing: "{name} is typing…",
  answers: "{name} answers",
  agentAnswers: "The agent answers",
  handBack: "Hand back to the agent",
  takeOver: "Take over",
  resolve: "Mark as resolved",
  close: "Close",
  closeAsk: "Close this conversation? The visitor cannot write in it any more.",
  reopen: "Open again",
  answer: "Answer",
  placeholder: "Write an answer. Enter sends, Shift+Enter begins a new line.",
  canned: "Insert an answer…",
  back: "Back to the list",
  product: "Product",
  cart: "Cart",
  emptyCart: "The cart is empty.",
  total: "Total {total}",
  gone: "This product is not sold any more.",
  began: "Began",
  sound: "Sound",
  offline: "Reconnecting…",
  messages: "Messages",
  details: "Product and cart",
  keys: "Keys: / search, j and k next and previous, r answer, Esc back to the list",
};

const he: typeof en = {
  inbox: "תיבת פניות",
  name: "שם",
  password: "סיסמה",
  logIn: "כניסה",
  logOut: "יציאה",
  filters: "הצגה",
  chats: "שיחות",
  search: "חיפוש בשמות ובהודעות",
  all: "הכול",
  waiting: "ללא מענה",
  urgent: "דחופות",
  mine: "שלי",
  active: "אצל הסוכן",
  pending: "בהמתנה",
  in_progress: "אצל נציג",
  resolved: "טופלו",
  closed: "סגורות",
  none: "אין כאן שיחות.",
  more: "הצגת שיחות נוספות",
  choose: "בחרו שיחה.",
  visitor: "מבקר/ת",
  agent: "העוזר",
  you: "אתם",
  spam: "נראה כספאם",
  unread: "{count} לא נקראו",
  waits: "ממתין כבר {time}",
  typing: "{name} כותב/ת…",
  answers: "{name} עונה",
  agentAnswers: "הסוכן עונה",
  handBack: "החזרה לסוכן",
  takeOver: "לקחת את השיחה",
  resolve: "סימון כטופלה",
  close: "סגירה",
  closeAsk: "לסגור את השיחה? המבקר/ת לא יוכל/תוכל לכתוב בה עוד.",
  reopen: "פתיחה מחדש",
  answer: "שליחת תשובה",
  placeholder: "כתבו תשובה. Enter שולח, Shift+Enter מתחיל שורה חדשה.",
  canned: "הוספת תשובה מוכנה…",
  back: "חזרה לרשימה",
  product: "מוצר",
  cart: "עגלה",
  emptyCart: "העגלה ריקה.",
  total: 'סה"כ {total}',
  gone: "המוצר הזה כבר לא נמכר.",
  began: "התחילה",
  sound: "צליל",
  offline: "מתחבר מחדש…",
  messages: "הודעות",
  details: "מוצר ועגלה",
  keys: "מקשים: / חיפוש, j ו-k הבאה והקודמת, r תשובה, Esc חזרה לרשימה",
};

export type InboxWord = keyof typeof en;

/** What was chosen in this browser, here and on the chat page. */
export const storage = new SafeStorage();

/** The language that the chat page was set to, else the browser's. */
export const inboxLanguage = chosen();

export function say(word: InboxWord, params: Params = {}): string {
  return filled(inboxLanguage, (inboxLanguage === "he" ? he : en)[word], params);
}

function chosen(): Language {
  const stored = storage.getItem("agw.language");
  return stored === "he" || stored === "en" ? stored : preferred(navigator.languages);
}
