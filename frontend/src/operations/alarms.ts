/** What each alarm means and what to do about it; the English is that of docs/alarms.md, and a test compares them. */

import type { Language } from "../core/index.ts";

interface AlarmText {
  title: string;
  toDo: string;
}

const en: Record<string, AlarmText> = {
  TurnsFail: {
    title: "Turns fail",
    toDo: "More than a tenth of the turns of the last five minutes failed. Look at the sessions' last messages or at the log: often the model's provider or its key is the cause. `agent_gateway_turns_total` says by outcome how they ended.",
  },
  WorkersNearlyAll: {
    title: "Workers nearly used up",
    toDo: "More than 90 % of the workers that may run are running. Raise `limits.max_live_workers` if there is memory, park idle sessions earlier (`sessions.park_after_seconds`), or add a gateway.",
  },
  Rejects: {
    title: "Requests over a limit",
    toDo: "Requests over a limit are refused, more than one a second. Look for one greedy person or tenant in the tables below; if there is none, the limit is too small.",
  },
  SlowStarts: {
    title: "Agents start slowly",
    toDo: "New sessions wait longer than 2.5 seconds for their agent. Too many start at once for the processors, or the agent starts slowly; `workers.spares` keeps some started.",
  },
  LoopLags: {
    title: "The gateway is late",
    toDo: "The gateway's event loop is late by more than a quarter of a second. The processors are taken: end sessions that use much CPU, or move some to another gateway.",
  },
  TaskFails: {
    title: "A background task fails",
    toDo: "A background task failed. It starts again by itself; what it does (parking, purging, limits, quotas) is late until then. Search the log for “background task”.",
  },
  StoreFails: {
    title: "The database cannot be written",
    toDo: "The database cannot be written. Look at the disk first. What was accepted is safe; new messages are refused until there is room.",
  },
  StoreLost: {
    title: "The database is gone",
    toDo: "The database was removed, replaced or cut short. Nothing is stored. Do not restart the gateway yet: its log says how to save what it still has open. Then restore a backup.",
  },
  StoreDamaged: {
    title: "The database is damaged",
    toDo: "The database is damaged, and some sessions cannot be read. Run `agent-gateway doctor`, look at the disk, copy the data directory, and restore the last backup.",
  },
  StoreSilent: {
    title: "PostgreSQL does not answer",
    toDo: "PostgreSQL has not answered for longer than the lease: agents rest, and nothing new is accepted until it does. Look at the server and at the way to it.",
  },
  PlaceLost: {
    title: "Others took over",
    toDo: "The gateway stood still or was cut off from PostgreSQL for longer than its lease, and others took over. Nothing acknowledged is lost. Look for pauses of its machine, processors that are taken, or the network.",
  },
  DiskFills: {
    title: "The disk is nearly full",
    toDo: "The disk is nearly full, and a full disk takes no new message. Delete old backups, `replaced-…` and `gateway.db.damaged-…`, or sessions that nobody needs.",
  },
  MemoryShort: {
    title: "Little memory is left",
    toDo: "Idle agents are parked and turns wait, because little memory is left. Give the gateway more memory, or fewer or smaller agents: docs/operating.md, Memory.",
  },
  StoreBehind: {
    title: "The disk is too slow",
    toDo: "More than 10,000 events wait for the disk: it is slower than what the agents write. `agent_gateway_store_commit_seconds` says how slow.",
  },
  Survivors: {
    title: "Processes outlived their worker",
    toDo: "Processes of an ended worker are still alive. This must not happen: the log names the session; look for the processes, and report it.",
  },
  WorkersDie: {
    title: "Agents die",
    toDo: "Agents end by themselves, more than one in five seconds. The log and the sessions' last messages say why: memory, a broken command, a missing file.",
  },
  ModelFails: {
    title: "Model calls fail",
    toDo: "More than a tenth of the model calls of the last five minutes failed. Look at the provider's status, its key and its quota; the log has the answers.",
  },
};

const he: Record<string, AlarmText> = {
  TurnsFail: {
    title: "תורות נכשלים",
    toDo: "יותר מעשירית מהתורות בחמש הדקות האחרונות נכשלו. כדאי להסתכל בהודעות האחרונות של השיחות או ביומן: לעתים קרובות הסיבה היא ספק המודל או המפתח שלו. ‎`agent_gateway_turns_total`‎ אומר לפי תוצאה כיצד הסתיימו.",
  },
  WorkersNearlyAll: {
    title: "התהליכים כמעט נוצלו",
    toDo: "יותר מ־90% מהתהליכים המותרים רצים. אפשר להגדיל את `limits.max_live_workers` אם יש זיכרון, להשהות שיחות פנויות מוקדם יותר (`sessions.park_after_seconds`), או להוסיף שער.",
  },
  Rejects: {
    title: "בקשות מעבר למגבלה",
    toDo: "בקשות מעבר למגבלה מסורבות, יותר מאחת בשנייה. כדאי לחפש בטבלאות למטה אדם או דייר אחד שמבקש הרבה; אם אין כזה, המגבלה קטנה מדי.",
  },
  SlowStarts: {
    title: "הסוכנים עולים לאט",
    toDo: "שיחות חדשות מחכות לסוכן יותר מ־2.5 שניות. יותר מדי עולים בבת אחת עבור המעבדים, או שהסוכן עולה לאט; `workers.spares` מחזיק כמה מוכנים.",
  },
  LoopLags: {
    title: "השער מאחר",
    toDo: "לולאת האירועים של השער מאחרת ביותר מרבע שנייה. המעבדים תפוסים: אפשר לסיים שיחות שצורכות הרבה מעבד, או להעביר חלק לשער אחר.",
  },
  TaskFails: {
    title: "משימת רקע נכשלת",
    toDo: "משימת רקע נכשלה. היא מתחילה שוב מעצמה; מה שהיא עושה (השהיה, מחיקה, מגבלות, מכסות) מתעכב עד אז. אפשר לחפש ביומן “background task”.",
  },
  StoreFails: {
    title: "אי אפשר לכתוב למסד",
    toDo: "אי אפשר לכתוב למסד הנתונים. קודם כול יש להסתכל בדיסק. מה שכבר התקבל בטוח; הודעות חדשות מסורבות עד שיהיה מקום.",
  },
  StoreLost: {
    title: "המסד נעלם",
    toDo: "מסד הנתונים הוסר, הוחלף או קוצר. דבר אינו נשמר. אין להפעיל מחדש את השער: ביומן כתוב כיצד להציל את מה שעדיין פתוח אצלו. אחר כך יש לשחזר גיבוי.",
  },
  StoreDamaged: {
    title: "המסד פגום",
    toDo: "מסד הנתונים פגום, וחלק מהשיחות אינן ניתנות לקריאה. יש להריץ `agent-gateway doctor`, להסתכל בדיסק, להעתיק את תיקיית הנתונים ולשחזר את הגיבוי האחרון.",
  },
  StoreSilent: {
    title: "PostgreSQL אינו עונה",
    toDo: "PostgreSQL לא ענה זמן ארוך מהחכירה: הסוכנים נחים, ודבר חדש אינו מתקבל עד שיענה. יש להסתכל בשרת ובדרך אליו.",
  },
  PlaceLost: {
    title: "שערים אחרים החליפו אותו",
    toDo: "השער עמד או נותק מ־PostgreSQL זמן ארוך מהחכירה, ואחרים החליפו אותו. דבר שאושר לא אבד. יש לחפש עצירות של המחשב, מעבדים תפוסים או תקלות רשת.",
  },
  DiskFills: {
    title: "הדיסק כמעט מלא",
    toDo: "הדיסק כמעט מלא, ודיסק מלא אינו מקבל הודעות חדשות. אפשר למחוק גיבויים ישנים, `replaced-…` ו־`gateway.db.damaged-…`, או שיחות שאיש אינו צריך.",
  },
  MemoryShort: {
    title: "נשאר מעט זיכרון",
    toDo: "סוכנים בטלים מושהים ותורות ממתינים, כי נשאר מעט זיכרון. אפשר לתת לשער יותר זיכרון, או פחות סוכנים או קטנים יותר: docs/operating.md, Memory.",
  },
  StoreBehind: {
    title: "הדיסק איטי מדי",
    toDo: "יותר מ־10,000 אירועים מחכים לדיסק: הוא איטי ממה שהסוכנים כותבים. `agent_gateway_store_commit_seconds` אומר עד כמה.",
  },
  Survivors: {
    title: "תהליכים שרדו אחרי העובד",
    toDo: "תהליכים של עובד שהסתיים עדיין חיים. זה לא אמור לקרות: היומן נוקב בשם השיחה; יש לחפש את התהליכים ולדווח.",
  },
  WorkersDie: {
    title: "סוכנים מתים",
    toDo: "סוכנים מסתיימים מעצמם, יותר מאחד בחמש שניות. היומן וההודעות האחרונות של השיחות אומרים מדוע: זיכרון, פקודה שבורה, קובץ חסר.",
  },
  ModelFails: {
    title: "קריאות למודל נכשלות",
    toDo: "יותר מעשירית מהקריאות למודל בחמש הדקות האחרונות נכשלו. כדאי לבדוק את מצב הספק, את המפתח ואת המכסה; ביומן נמצאות התשובות.",
  },
};

export const ALARMS: Record<Language, Record<string, AlarmText>> = { en, he };
