/**
 * The gateway's notices by their codes, with the numbers and names that come with them. What is not here, or comes
 * without its values, is said in the gateway's own words.
 */

import { filled, type Language, type NoticeItem } from "../core/index.ts";

const en = {
  queue_held_person: "{messages|one:A waiting message is held; send or drop it.|other:# waiting messages are held; send or drop them.}",
  queue_held_budget: "{messages|one:A waiting message is held until the budget allows it.|other:# waiting messages are held until the budget allows them.}",
  message_withdrawn: "{messages|one:A waiting message from|other:# waiting messages from} {names} {messages|one:was|other:were} withdrawn: the link was revoked.",
  context_cut: "The conversation is longer than the model reads at once: its {messages|one:oldest message is|other:oldest # messages are} left out from here on.",
  snapshots_left_out: "{files|one:One file is|other:# files are} too large for snapshots: undo and forks leave such files out.",
  snapshots: "This conversation’s files cannot be taken back for now. {why}",
  snapshots_nearly_full: "The files of this conversation take {percent} % of what can be kept of them. Past that nothing new is kept, and it is lost if the conversation goes on at another gateway. Packages, caches and what .gitignore names do not count.",
  snapshots_unkept: "The newest files of this conversation could not be kept: {why}. That is tried again; until it is done, they are lost if the conversation goes on at another gateway.",
  files_brought: "This conversation goes on at another gateway, with the files of its last snapshot.{missing|0:|one: One file was too large to be kept and is not among them.|other: # files were too large to be kept and are not among them.}{lost|0:|one: One file was damaged where it was kept, and is lost.|other: # files were damaged where they were kept, and are lost.} Packages and caches that can be made again were left behind.",
  files_brought_older: "This conversation goes on at another gateway, with the files of an earlier turn: those of the last one were not kept.{missing|0:|one: One file was too large to be kept and is not among them.|other: # files were too large to be kept and are not among them.}{lost|0:|one: One file was damaged where it was kept, and is lost.|other: # files were damaged where they were kept, and are lost.} Packages and caches that can be made again were left behind.",
  provider_unavailable: "The agent’s model cannot be used for the moment. {why}",
  attachment_missing: "The agent is told that it cannot be shown {files|one:an attached file|other:# attached files}: {which}",
  question_refused: "The agent asked a question that cannot be shown. {why}",
  permission_refused: "The agent asked for permission in a way that cannot be shown, and was refused. {why}",
  option_refused: "Your choice of “{option}” could not be restored. {why}",
  workspace_preparing: "The repository {workspace} is being made ready: it is fetched and set up. …",
  workspace_ready: "These files are those of {workspace}, {at}: {files|one:one file|other:# files}.",
  workspace_stale: "These files are those of {workspace}, {at}: {files|one:one file|other:# files}. {why}",
  workspace_again_made: "Packages and caches are here again: {workspace} has made them here, at {at}.",
  workspace_again_later: "Packages and caches are here again: {workspace} has made them here, at {at}. This conversation began with {began}.",
  workspace_again_failed: "Packages and caches that {workspace} makes are not here. It is tried again when the agent starts next. {why}",
  workspace_submodules: "Submodules that were not fetched: {which}.",
  workspace_history: "The history of this repository is not here, so git does not work in it; its files are whole. It is fetched again when the agent starts next. {why}",
};

type NoticeKey = keyof typeof en;

const he: Record<NoticeKey, string> = {
  queue_held_person: "{messages|one:הודעה ממתינה אחת מושהית; שלחו אותה או בטלו אותה.|two:שתי הודעות ממתינות מושהות; שלחו או בטלו אותן.|other:# הודעות ממתינות מושהות; שלחו או בטלו אותן.}",
  queue_held_budget: "{messages|one:הודעה ממתינה אחת מושהית עד שהתקציב יאפשר אותה.|two:שתי הודעות ממתינות מושהות עד שהתקציב יאפשר אותן.|other:# הודעות ממתינות מושהות עד שהתקציב יאפשר אותן.}",
  message_withdrawn: "{messages|one:הודעה ממתינה אחת|two:שתי הודעות ממתינות|other:# הודעות ממתינות} מאת {names} {messages|one:נמשכה|other:נמשכו}: הקישור בוטל.",
  context_cut: "השיחה ארוכה ממה שהמודל קורא בבת אחת: {messages|one:ההודעה הישנה ביותר מושמטת|two:שתי ההודעות הישנות ביותר מושמטות|other:# ההודעות הישנות ביותר מושמטות} מכאן והלאה.",
  snapshots_left_out: "{files|one:קובץ אחד גדול מדי לגיבוי|two:שני קבצים גדולים מדי לגיבוי|other:# קבצים גדולים מדי לגיבוי}: ביטול ופיצול אינם כוללים קבצים כאלה.",
  snapshots: "לעת עתה אי אפשר להחזיר את הקבצים של השיחה הזאת לאחור. {why}",
  snapshots_nearly_full: "הקבצים של השיחה הזאת תופסים {percent}% ממה שאפשר לשמור מהם. מעבר לזה לא נשמר דבר חדש, והוא יאבד אם השיחה תימשך בשער אחר. חבילות, מטמונים ומה ש־.gitignore מונה אינם נספרים.",
  snapshots_unkept: "הקבצים החדשים ביותר של השיחה הזאת לא נשמרו: {why}. ננסה שוב; עד אז הם יאבדו אם השיחה תימשך בשער אחר.",
  files_brought: "השיחה נמשכת בשער אחר, עם הקבצים שנשמרו בה לאחרונה.{missing|0:|one: קובץ אחד היה גדול מדי להישמר ואינו ביניהם.|two: שני קבצים היו גדולים מדי להישמר ואינם ביניהם.|other: # קבצים היו גדולים מדי להישמר ואינם ביניהם.}{lost|0:|one: קובץ אחד נפגם במקום שבו נשמר, ואבד.|two: שני קבצים נפגמו במקום שבו נשמרו, ואבדו.|other: # קבצים נפגמו במקום שבו נשמרו, ואבדו.} חבילות ומטמונים שאפשר ליצור שוב לא עברו.",
  files_brought_older: "השיחה נמשכת בשער אחר, עם קבצים של תור קודם: אלה של התור האחרון לא נשמרו.{missing|0:|one: קובץ אחד היה גדול מדי להישמר ואינו ביניהם.|two: שני קבצים היו גדולים מדי להישמר ואינם ביניהם.|other: # קבצים היו גדולים מדי להישמר ואינם ביניהם.}{lost|0:|one: קובץ אחד נפגם במקום שבו נשמר, ואבד.|two: שני קבצים נפגמו במקום שבו נשמרו, ואבדו.|other: # קבצים נפגמו במקום שבו נשמרו, ואבדו.} חבילות ומטמונים שאפשר ליצור שוב לא עברו.",
  provider_unavailable: "המודל של הסוכן אינו זמין כרגע. {why}",
  attachment_missing: "לסוכן נאמר שאי אפשר להראות לו {files|one:קובץ מצורף אחד|two:שני קבצים מצורפים|other:# קבצים מצורפים}: {which}",
  question_refused: "הסוכן שאל שאלה שאי אפשר להציג. {why}",
  permission_refused: "הסוכן ביקש רשות בדרך שאי אפשר להציג, וסורב. {why}",
  option_refused: "הבחירה שלכם ב„{option}” לא שוחזרה. {why}",
  workspace_preparing: "המאגר {workspace} בהכנה: הוא מורד ומותקן. …",
  workspace_ready: "הקבצים האלה הם של {workspace}, {at}: {files|one:קובץ אחד|two:שני קבצים|other:# קבצים}.",
  workspace_stale: "הקבצים האלה הם של {workspace}, {at}: {files|one:קובץ אחד|two:שני קבצים|other:# קבצים}. {why}",
  workspace_again_made: "החבילות והמטמונים שוב כאן: {workspace} יצר אותם כאן, ב־{at}.",
  workspace_again_later: "החבילות והמטמונים שוב כאן: {workspace} יצר אותם כאן, ב־{at}. השיחה הזאת התחילה עם {began}.",
  workspace_again_failed: "החבילות והמטמונים ש־{workspace} יוצר אינם כאן. ננסה שוב כשהסוכן יתחיל בפעם הבאה. {why}",
  workspace_submodules: "תת־מודולים שלא הורדו: {which}.",
  workspace_history: "ההיסטוריה של המאגר אינה כאן, ולכן git אינו פועל בו; הקבצים שלו שלמים. היא תורד שוב כשהסוכן יתחיל בפעם הבאה. {why}",
};

const texts: Record<Language, Record<NoticeKey, string>> = { en, he };

/** The words of a notice in a language; null: there are none but the gateway's. */
export function noticeWords({ code, values }: Pick<NoticeItem, "code" | "values">, language: Language): string | null {
  if (values === undefined) return null;
  const key = [`${code}_${values["kind"]}`, code].find(isNoticeKey);
  return key === undefined ? null : filled(language, texts[language][key], values).trim();
}

function isNoticeKey(text: string): text is NoticeKey {
  return Object.hasOwn(en, text);
}
