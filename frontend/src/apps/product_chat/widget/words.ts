/** The widget's texts. */

export const WORDS = {
  en: {
    title: "Questions about this product?",
    open: "Open the chat",
    close: "Close the chat",
    send: "Send",
    placeholder: "Write a message",
    log: "Messages",
    typing: (name: string) => `${name} is typing…`,
    offline: "Reconnecting…",
    failed: "Not sent.",
    again: "Try again",
    person: (name: string) => `${name} is answering you.`,
    unread: (count: number) => `${count} unread`,
    you: "You",
  },
  he: {
    title: "שאלות על המוצר?",
    open: "פתיחת הצ'אט",
    close: "סגירת הצ'אט",
    send: "שליחה",
    placeholder: "כתבו הודעה",
    log: "הודעות",
    typing: (name: string) => `${name} כותב/ת…`,
    offline: "מתחבר מחדש…",
    failed: "לא נשלח.",
    again: "לנסות שוב",
    person: (name: string) => `${name} עונה לכם.`,
    unread: (count: number) => `${count} לא נקראו`,
    you: "אתם",
  },
};

export type Words = (typeof WORDS)["en"];
