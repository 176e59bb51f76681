/** The browser client of Agent Gateway without any look: no DOM, no framework. */

export * from "./api.ts";
export * from "./chat-manager.ts";
export * from "./clock.ts";
export * from "./conversation.ts";
export * from "./errors.ts";
export type * from "./events.ts";
export * from "./i18n.ts";
export * from "./identity.ts";
export * from "./ids.ts";
export * from "../apps/product_chat/client/chat.ts";
export * from "../apps/product_chat/client/sessions.ts";
export * from "../apps/product_chat/client/socket.ts";
export * from "./reduce.ts";
export * from "./store.ts";
export * from "./stream.ts";
export * from "./visitor.ts";
