/** What a conversation asks of the gateway: of the owner's own session, or by a link to somebody else's. */

import { type Api, BRIEF } from "./api.ts";
import type { HistoryPage, MinimalAnswer } from "./wire.ts";

export interface Verbs {
  /** `last`: a stream that begins anew begins with so many messages, the last ones. */
  streamUrl(after: number, last?: number): string;
  /** `last` messages before the message of this number, with what was done between them. */
  history(before: number, last: number): Promise<HistoryPage>;
  /** `attachments` are paths of files in the working directory; only the owner can attach. */
  chat(text: string, key: string, attachments?: readonly string[]): Promise<MinimalAnswer>;
  interrupt(): Promise<MinimalAnswer>;
  answerPermission(permissionId: string, optionId: string): Promise<unknown>;
  answerQuestion(questionId: string, action: "accept" | "decline" | "cancel", content?: unknown): Promise<unknown>;
}

export function ownVerbs(api: Api, sessionId: string): Verbs {
  return {
    streamUrl: (after, last) => api.streamUrl(sessionId, after, last),
    history: (before, last) => api.history(sessionId, before, last),
    chat: (text, key, attachments) => api.chat<MinimalAnswer>(sessionId, text, key, attachments, BRIEF),
    interrupt: () => api.interrupt<MinimalAnswer>(sessionId, BRIEF),
    answerPermission: (id, option) => api.answerPermission(sessionId, id, option),
    answerQuestion: (id, action, content) => api.answerQuestion(sessionId, id, action, content),
  };
}
