import { describe, expect, it } from "vitest";
import {
  DATA_KEY, EXPIRY_MILLISECONDS, GLOBAL_KEY, LEGACY_KEYS, PRODUCT_SESSION_ID, ProductSessions, SafeStorage,
  type SessionData, type SimpleStorage,
} from "../../../src/apps/product_chat/client/sessions.ts";
import { FakeClock } from "../../fakes.ts";

class MapStorage implements SimpleStorage {
  map = new Map<string, string>();
  getItem = (key: string): string | null => this.map.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.map.set(key, value);
  removeItem = (key: string): void => void this.map.delete(key);
}

const NOW = 1_700_000_000_000;

function browser() {
  const storage = new MapStorage();
  const clock = new FakeClock();
  clock.time = NOW;
  clock.random = Math.random;
  const tab = (): ProductSessions => new ProductSessions({ storage, clock, fingerprint: "f1" });
  return { storage, clock, tab, data: () => JSON.parse(storage.getItem(DATA_KEY) ?? "null") as SessionData };
}

describe("ids", () => {
  it("say when, are random, and fit what the gateway takes", () => {
    const { tab } = browser();
    const ids = Array.from({ length: 1000 }, () => tab().generateUniqueId());
    expect(new Set(ids).size).toBeGreaterThan(990);
    for (const id of ids) {
      expect(id).toMatch(/^session_1700000000000_[0-9a-z]{16}_f1$/);
      expect(id).toMatch(PRODUCT_SESSION_ID);
    }
  });

  it("are valid with a clock that makes no sense", () => {
    const { tab, clock } = browser();
    for (const time of [Number.NaN, -5, 0, 8.64e15]) {
      clock.time = time;
      expect(tab().generateUniqueId()).toMatch(PRODUCT_SESSION_ID);
    }
  });
});

describe("the chat of a product", () => {
  it("is the same in every tab, and another one for another product", () => {
    const { tab, data, storage } = browser();
    const first = tab().getProductSession(1);
    expect(tab().getProductSession(1)).toEqual(first);
    expect(tab().getProductSession(2).sessionId).not.toBe(first.sessionId);
    expect(Object.keys(data().productSessions)).toEqual(["product_1", "product_2"]);
    expect(storage.getItem(GLOBAL_KEY)).toBe(data().globalSessionId);
    expect(first).toEqual({
      sessionId: first.sessionId, productId: 1, createdAt: NOW, lastActivity: NOW, messageCount: 0, isActive: true,
    });
  });

  it("keeps what is changed, and the name for the next product", () => {
    const { tab, clock } = browser();
    clock.time += 5;
    tab().updateProductSession(1, { customerName: "Dana", messageCount: 3 });
    expect(tab().getProductSession(1)).toMatchObject({ customerName: "Dana", messageCount: 3, lastActivity: NOW + 5 });
    expect(tab().getProductSession(2).customerName).toBe("Dana");
  });

  it("expires 24 hours after its last use", () => {
    const { tab, clock } = browser();
    const first = tab().getProductSession(1).sessionId;
    clock.time += EXPIRY_MILLISECONDS - 1;
    expect(tab().getProductSession(1).sessionId).toBe(first);
    clock.time += 1;
    expect(tab().getProductSession(1).sessionId).not.toBe(first);
  });

  it("does not live for ever because a clock was wrong", () => {
    const { tab, clock } = browser();
    clock.time = NOW + 400 * EXPIRY_MILLISECONDS;
    const first = tab().getProductSession(1).sessionId;
    clock.time = NOW;
    expect(tab().getProductSession(1).sessionId).toBe(first);
    clock.time = NOW + EXPIRY_MILLISECONDS;
    expect(tab().getProductSession(1).sessionId).not.toBe(first);
  });

  it("is begun anew where what is stored cannot be read", () => {
    for (const junk of ["", "{", "7", "null", '{"productSessions":{"product_1":{"sessionId":"<b>"}}}', '{"productSessions":[3]}']) {
      const { tab, storage } = browser();
      storage.setItem(DATA_KEY, junk);
      expect(tab().getProductSession(1).sessionId).toMatch(PRODUCT_SESSION_ID);
    }
  });
});

describe("what an older client left", () => {
  it("goes on under its id, once", () => {
    const { tab, storage, data } = browser();
    storage.setItem(LEGACY_KEYS.id, "old_1");
    storage.setItem(LEGACY_KEYS.name, "Dana");
    storage.setItem(LEGACY_KEYS.email, "d@example.com");
    expect(tab().migrateLegacyData(4)).toBe(true);
    expect(tab().migrateLegacyData(4)).toBe(false);
    expect(tab().getProductSession(4)).toMatchObject({ sessionId: "old_1", customerName: "Dana", customerEmail: "d@example.com" });
    expect(data().userPreferences).toEqual({ name: "Dana", email: "d@example.com" });
    expect(storage.getItem(GLOBAL_KEY)).toBe("old_1");
    for (const key of Object.values(LEGACY_KEYS)) expect(storage.getItem(key)).toBeNull();
  });

  it("replaces nothing that is there, and nothing with an id that cannot be one", () => {
    const { tab, storage } = browser();
    const mine = tab().getProductSession(4).sessionId;
    storage.setItem(LEGACY_KEYS.id, "old_1");
    expect(tab().migrateLegacyData(4)).toBe(false);
    expect(tab().getProductSession(4).sessionId).toBe(mine);
    storage.setItem(LEGACY_KEYS.id, "no good");
    expect(tab().migrateLegacyData(5)).toBe(false);
  });
});

describe("storage", () => {
  it("that is forbidden or full is memory", () => {
    const forbidden = new SafeStorage(() => {
      throw new Error("SecurityError");
    });
    const full = new SafeStorage(() => ({
      getItem: () => null,
      removeItem: () => undefined,
      setItem: () => {
        throw new Error("QuotaExceededError");
      },
    }));
    for (const storage of [forbidden, full, new SafeStorage(() => undefined)]) {
      const sessions = new ProductSessions({ storage, clock: new FakeClock() });
      const first = sessions.getProductSession(1);
      expect(sessions.getProductSession(1)).toEqual(first);
      storage.removeItem(DATA_KEY);
      expect(storage.getItem(DATA_KEY)).toBeNull();
    }
  });

  it("tells of other tabs", () => {
    const { tab } = browser();
    const target = new EventTarget();
    let calls = 0;
    const end = tab().onChange(() => (calls += 1), target);
    const event = (key: string | null): Event => Object.assign(new Event("storage"), { key });
    target.dispatchEvent(event(DATA_KEY));
    target.dispatchEvent(event("something else"));
    target.dispatchEvent(event(null));
    end();
    target.dispatchEvent(event(DATA_KEY));
    expect(calls).toBe(2);
  });
});
