// Made by frontend/wire.py from the gateway's Python types. Change those, and run it again.

/** The session is a product chat from here on: a visitor asks about this product. */
export interface ChatOpened {
  type: "chat_opened";
  product_id: number;
  product_name: string;
  customer_name: string | null;
  customer_email: string | null;
}

/**
 * A message of a product chat got its number. `message_id` is the message in this log, `client_id` what its
 * sender calls it, `connection_id` the socket that it came by.
 */
export interface ChatPost {
  type: "chat_post";
  post_id: number;
  message_id: string;
  sender_type: "admin" | "assistant" | "customer" | "system";
  sender_name: string;
  text: string;
  sender_id: string | null;
  message_type: string;
  client_id: string | null;
  connection_id: string | null;
  spam_score: number;
}

/** Somebody has read these messages of a product chat. */
export interface ChatRead {
  type: "chat_read";
  post_ids: number[];
  read_by: string;
  read_by_type: "admin" | "assistant" | "customer" | "system";
}

/** Where a product chat stands; `person` has taken over from the agent (null: the agent answers). */
export interface ChatStatus {
  type: "chat_status";
  status: "active" | "closed" | "in_progress" | "pending" | "resolved";
  person: string | null;
  priority: "normal" | "urgent";
}

/** Somebody joined or left a product chat, began or stopped to type. Shown to who is there, never kept. */
export interface ChatPresence {
  type: "chat_presence";
  what: "joined" | "left" | "stopped" | "typing";
  user_name: string;
  user_type: "admin" | "assistant" | "customer" | "system";
  connection_id: string;
}

/** A chat that is open: a new one, or the one that was. */
export interface Opened {
  message: string;
  session_id: string;
  existing: boolean;
  product_name?: string | null;
}

/** A message that stands; `sanitized`: control characters were dropped, or forms normalised. */
export interface Sent {
  message: string;
  message_id: number;
  session_id: string;
  sanitized: boolean;
}

/** A message as clients list it; `session_id` is the row of the chat. */
export interface MessageRow {
  id: number;
  session_id: number;
  sender_type: string;
  sender_id: string | null;
  sender_name: string;
  message_text: string;
  message_type: string;
  is_read: boolean;
  created_at: string;
  updated_at: string;
}

/** The chat that messages belong to. */
export interface ChatInfo {
  session_id: string;
  customer_name: string | null;
  customer_email: string | null;
  status: string;
  created_at: string;
  last_message_at: string | null;
}

/** Where a page stands. */
export interface Pagination {
  total_count: number;
  limit: number;
  offset: number;
  has_more: boolean;
  has_previous: boolean;
  current_page: number;
  total_pages: number;
}

/** A page of messages. */
export interface MessagePage {
  messages: MessageRow[];
  session_info: ChatInfo;
  pagination: Pagination;
  unread_count: number;
}

/** A chat as the staff lists it. */
export interface AdminChat {
  id: number;
  session_id: string;
  product_id: number;
  product_name: string;
  customer_name: string | null;
  customer_email: string | null;
  status: string;
  priority: string;
  assigned_to: string | null;
  is_spam: boolean;
  message_count: number;
  unread_count: number;
  created_at: string;
  last_message_at: string | null;
  /** Its first words. */
  last_message: string | null;
  last_sender: string | null;
  /** When the visitor wrote what nobody has answered yet. */
  waiting_since: string | null;
}

/** The tenant's chats, urgent ones first. */
export interface AdminChats {
  sessions: AdminChat[];
  limit: number;
  offset: number;
}

/** A token for a member of the staff: send it as Bearer. */
export interface LoggedIn {
  access_token: string;
  token_type: string;
  user_id: number;
  username: string;
  is_admin: boolean;
}

/** A product that can be chatted about. */
export interface CatalogueProduct {
  id: number;
  name: string;
  price: string;
  description: string;
}

/** What the widget shows before anything was said. Empty: it has words of its own. */
export interface WidgetSettings {
  product: CatalogueProduct;
  greeting: string;
  suggestions: string[];
  /** Whether people of the shop are there now. */
  is_open: boolean;
  /** What to say while they are not. */
  away: string;
}

/** The shop's people were told. */
export interface PersonWanted {
  message: string;
  session_id: string;
  is_open: boolean;
  away: string;
}

/** A line of a visitor's cart; prices are texts as they are shown. */
export interface CartItem {
  name: string;
  quantity: number;
  total: string;
}

/** What the staff sees beside a chat. */
export interface ChatAside {
  chat: AdminChat;
  /** null: it is not sold any more. */
  product: CatalogueProduct | null;
  cart: CartItem[];
  cart_total: string;
}

/** An answer that the staff often gives. */
export interface CannedAnswer {
  name: string;
  text: string;
}

/** Those of the configuration, in its order. */
export interface CannedAnswers {
  answers: CannedAnswer[];
}
