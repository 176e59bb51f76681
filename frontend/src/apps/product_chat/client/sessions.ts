/**
 * Which chat belongs to which product in this browser. It is kept in localStorage, where other tabs see it. If that
 * is full or forbidden it is kept in memory, and the chat works until the tab is closed.
 */

import { systemClock, type Clock } from "../../../core/clock.ts";

export const GLOBAL_KEY = "global_chat_session";
export const DATA_KEY = "chat_session_data";
export const LEGACY_KEYS = { id: "chat_session_id", name: "chat_customer_name", email: "chat_customer_email" };
export const EXPIRY_MILLISECONDS = 24 * 60 * 60 * 1000;
/** What the gateway takes as the id of a product chat. */
export const PRODUCT_SESSION_ID = /^[a-zA-Z0-9_-]{1,255}$/;

export interface ProductSession {
  sessionId: string;
  productId: number;
  customerName?: string;
  customerEmail?: string;
  createdAt: number;
  lastActivity: number;
  messageCount: number;
  isActive: boolean;
}

export interface VisitorPreferences {
  name?: string;
  email?: string;
  theme?: string;
}

export interface SessionData {
  globalSessionId: string;
  productSessions: Record<string, ProductSession>;
  userPreferences: VisitorPreferences;
}

export type SimpleStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** localStorage while it works, memory from the moment it does not. */
export class SafeStorage implements SimpleStorage {
  #memory = new Map<string, string | null>();
  #inner: () => SimpleStorage | undefined;

  constructor(inner: () => SimpleStorage | undefined = () => globalThis.localStorage) {
    this.#inner = inner;
  }

  getItem(key: string): string | null {
    if (this.#memory.has(key)) return this.#memory.get(key) ?? null;
    try {
      return this.#inner()?.getItem(key) ?? null;
    } catch {
      return null;
    }
  }

  setItem(key: string, value: string): void {
    try {
      const storage = this.#inner();
      if (!storage) throw new Error("no storage");
      storage.setItem(key, value);
      this.#memory.delete(key);
    } catch {
      this.#memory.set(key, value);
    }
  }

  removeItem(key: string): void {
    this.#memory.delete(key);
    try {
      this.#inner()?.removeItem(key);
    } catch {
      this.#memory.set(key, null);
    }
  }
}

export interface ProductSessionsOptions {
  storage?: SimpleStorage;
  clock?: Clock;
  fingerprint?: string;
}

export class ProductSessions {
  readonly storage: SimpleStorage;
  #clock: Clock;
  #fingerprint: string;

  constructor(options: ProductSessionsOptions = {}) {
    this.storage = options.storage ?? new SafeStorage();
    this.#clock = options.clock ?? systemClock;
    this.#fingerprint = options.fingerprint ?? browserMark();
  }

  generateUniqueId(): string {
    const now = Math.max(0, Math.trunc(this.#clock.now()) || 0);
    let random = "";
    while (random.length < 16) random += Math.floor(this.#clock.random() * 36 ** 6).toString(36);
    return `session_${now}_${random.slice(0, 16)}_${this.#fingerprint}`;
  }

  /** What is stored, without what has expired. What cannot be read counts as nothing. */
  read(): SessionData {
    const data = parsed(this.storage.getItem(DATA_KEY));
    const now = this.#clock.now();
    const productSessions: Record<string, ProductSession> = {};
    for (const [key, session] of Object.entries(data?.productSessions ?? {})) {
      if (!isSession(session)) continue;
      // Used in the future: the clock was wrong then or is wrong now. It counts as used now, so that it can expire.
      const lastActivity = Math.min(session.lastActivity, now);
      if (now - lastActivity < EXPIRY_MILLISECONDS) productSessions[key] = { ...session, lastActivity };
    }
    const known = data?.globalSessionId ?? this.storage.getItem(GLOBAL_KEY) ?? "";
    const globalSessionId = PRODUCT_SESSION_ID.test(known) ? known : this.generateUniqueId();
    return { globalSessionId, productSessions, userPreferences: data?.userPreferences ?? {} };
  }

  /** The chat of this product, made if there is none (any more). */
  getProductSession(productId: number): ProductSession {
    const data = this.read();
    const now = this.#clock.now();
    const { name, email } = data.userPreferences;
    const session = data.productSessions[keyOf(productId)] ?? {
      sessionId: this.generateUniqueId(),
      productId,
      ...(name === undefined ? {} : { customerName: name }),
      ...(email === undefined ? {} : { customerEmail: email }),
      createdAt: now,
      lastActivity: now,
      messageCount: 0,
      isActive: true,
    };
    this.#write(data, session);
    return session;
  }

  updateProductSession(productId: number, changes: Partial<Omit<ProductSession, "productId">>): ProductSession {
    const session = { ...this.getProductSession(productId), lastActivity: this.#clock.now(), ...changes };
    const data = this.read();
    if (session.customerName !== undefined) data.userPreferences.name = session.customerName;
    if (session.customerEmail !== undefined) data.userPreferences.email = session.customerEmail;
    this.#write(data, session);
    return session;
  }

  /** Makes a new id for this product: the old one belongs to another visitor or product. */
  renewProductSession(productId: number): ProductSession {
    return this.updateProductSession(productId, { sessionId: this.generateUniqueId(), messageCount: 0 });
  }

  /** Takes over the one chat of older clients, with its id, so that the conversation goes on. */
  migrateLegacyData(productId: number): boolean {
    const id = this.storage.getItem(LEGACY_KEYS.id);
    const name = this.storage.getItem(LEGACY_KEYS.name);
    const email = this.storage.getItem(LEGACY_KEYS.email);
    for (const key of Object.values(LEGACY_KEYS)) this.storage.removeItem(key);
    const data = this.read();
    if (name) data.userPreferences.name = name;
    if (email) data.userPreferences.email = email;
    const isUsable = id !== null && PRODUCT_SESSION_ID.test(id) && !data.productSessions[keyOf(productId)];
    if (!isUsable) {
      if (name || email) this.#write(data);
      return false;
    }
    const now = this.#clock.now();
    this.#write(
      { ...data, globalSessionId: id },
      {
        sessionId: id,
        productId,
        ...(name ? { customerName: name } : {}),
        ...(email ? { customerEmail: email } : {}),
        createdAt: now,
        lastActivity: now,
        messageCount: 0,
        isActive: true,
      },
    );
    return true;
  }

  /** Calls back when another tab has changed something; the answer ends that. */
  onChange(call: () => void, target: EventTarget = globalThis as unknown as EventTarget): () => void {
    const listen = (event: Event): void => {
      const { key } = event as StorageEvent;
      if (key === null || key === DATA_KEY || key === GLOBAL_KEY) call();
    };
    target.addEventListener("storage", listen);
    return () => target.removeEventListener("storage", listen);
  }

  #write(data: SessionData, session?: ProductSession): void {
    const productSessions = { ...data.productSessions };
    if (session) productSessions[keyOf(session.productId)] = session;
    this.storage.setItem(GLOBAL_KEY, data.globalSessionId);
    this.storage.setItem(DATA_KEY, JSON.stringify({ ...data, productSessions }));
  }
}

function keyOf(productId: number): string {
  return `product_${productId}`;
}

function parsed(text: string | null): Partial<SessionData> | null {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return typeof value === "object" ? (value as Partial<SessionData> | null) : null;
  } catch {
    return null;
  }
}

function isSession(value: unknown): value is ProductSession {
  const session = value as ProductSession | null;
  return (
    typeof session === "object" &&
    session !== null &&
    PRODUCT_SESSION_ID.test(String(session.sessionId)) &&
    Number.isFinite(session.lastActivity) &&
    Number.isInteger(session.productId)
  );
}

/** A short, coarse mark of this kind of browser; it identifies no person. */
function browserMark(): string {
  const about = `${globalThis.navigator?.language ?? ""} ${new Date().getTimezoneOffset()}`;
  let hash = 7;
  for (const char of about) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  return hash.toString(36);
}

let shared: ProductSessions | undefined;
const browser = (): ProductSessions => (shared ??= new ProductSessions());

export const generateUniqueId = (): string => browser().generateUniqueId();
export const getProductSession = (productId: number): ProductSession => browser().getProductSession(productId);
export const updateProductSession = (
  productId: number,
  changes: Partial<Omit<ProductSession, "productId">>,
): ProductSession => browser().updateProductSession(productId, changes);
export const migrateLegacyData = (productId: number): boolean => browser().migrateLegacyData(productId);
