/** The browser client of Agent Gateway without any look: no DOM, no framework. */

export * from "./api.ts";
export * from "./chat-manager.ts";
export * from "./clock.ts";
export * from "./conversation.ts";
export * from "./csv.ts";
export * from "./earlier.ts";
export * from "./errors.ts";
export type * from "./events.ts";
export * from "./files.ts";
export * from "./find.ts";
export type * from "./fold.ts";
export * from "./i18n.ts";
export * from "./identity.ts";
export * from "./ids.ts";
export * from "./link.ts";
export * from "./pieces.ts";
export * from "./reduce.ts";
export * from "./storage.ts";
export * from "./store.ts";
export * from "./stream.ts";
export * from "./subscribable.ts";
export * from "./tree.ts";
export type * from "./verbs.ts";
export * from "./visitor.ts";
