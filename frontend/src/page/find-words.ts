/** The texts of searching, filing and of what waits; loaded with them. */

import { textsOf } from "./preferences.ts";

const en = {
  label: "Search in your conversations",
  close: "Close the search",
  hint: "Every word must occur in the title or in the same message.",
  searching: "Searching…",
  none: "Nothing was found.",
  found: "{n|one:one hit|other:# hits}",
  more: "Search further back",
  indexing: "Older conversations are being indexed; searching them takes longer until then.",
  inTitle: "Title",
  fromUser: "You",
  fromAgent: "Agent",
  archived: "Archived",
  noneFiled: "No conversation is filed here.",
  filters: "Filed under",
  gone: "This message is not there any more.",
  tagsTitle: "Tags",
  tagsAbout: "Separate tags by commas. A conversation may have several.",
  waits: "The agent waits for you",
  done: "The agent has finished",
};

type FindWord = keyof typeof en;

const he: Record<FindWord, string> = {
  label: "חיפוש בשיחות שלכם",
  close: "סגירת החיפוש",
  hint: "כל המילים צריכות להופיע בכותרת או באותה הודעה.",
  searching: "מחפשים…",
  none: "לא נמצא דבר.",
  found: "{n|one:תוצאה אחת|two:שתי תוצאות|other:# תוצאות}",
  more: "לחפש עוד אחורה",
  indexing: "שיחות ישנות עדיין נאספות למפתח; עד אז החיפוש בהן אטי יותר.",
  inTitle: "כותרת",
  fromUser: "אתם",
  fromAgent: "הסוכן",
  archived: "בארכיון",
  noneFiled: "אין כאן שיחות.",
  filters: "מתויקות תחת",
  gone: "ההודעה הזאת כבר אינה קיימת.",
  tagsTitle: "תגיות",
  tagsAbout: "הפרידו בין תגיות בפסיקים. לשיחה יכולות להיות כמה.",
  waits: "הסוכן ממתין לכם",
  done: "הסוכן סיים",
};

export const f = textsOf({ en, he });
