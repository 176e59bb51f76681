import { describe, expect, it } from "vitest";
import type { StaffApi } from "../../../src/apps/product_chat/inbox/api.ts";
import { StaffDesk } from "../../../src/apps/product_chat/inbox/desk.ts";
import type { AdminChat } from "../../../src/apps/product_chat/wire.ts";

const chat = (number: number): AdminChat =>
  ({ session_id: `s${number}`, status: "active", priority: "normal", unread_count: 0, waiting_since: null,
     created_at: new Date(1e12 - number).toISOString(), last_message_at: null }) as unknown as AdminChat;

/** A gateway's answers, a hundred at a time. */
function deskOf(count: () => number, asked: number[] = []): StaffDesk {
  const all = () => Array.from({ length: count() }, (_, number) => chat(number));
  const api = {
    chats: async (_status: string, _search: string, offset: number) => {
      asked.push(offset);
      return all().slice(offset, offset + 100);
    },
  };
  return new StaffDesk(api as unknown as StaffApi);
}

describe("the list of the inbox", () => {
  it("shows a hundred chats, and more on demand, up to the last", async () => {
    const desk = deskOf(() => 250);
    await desk.refresh();
    expect([desk.chats.length, desk.hasMore]).toEqual([100, true]);
    await desk.more();
    expect([desk.chats.length, desk.hasMore]).toEqual([200, true]);
    await desk.more();
    expect([desk.chats.length, desk.hasMore]).toEqual([250, false]);
    expect(new Set(desk.shown.map((one) => one.session_id)).size).toBe(250);
  });

  it("keeps what is shown as it is read again, and begins anew with another view", async () => {
    const asked: number[] = [];
    const desk = deskOf(() => 150, asked);
    await desk.refresh();
    await desk.more();
    await desk.refresh();
    expect(desk.chats).toHaveLength(150);
    await desk.show("closed");
    expect(desk.chats).toHaveLength(100);
    expect(asked).toEqual([0, 0, 100, 0, 100, 0]);
  });

  it("offers no more when the last page is empty", async () => {
    const desk = deskOf(() => 100);
    await desk.refresh();
    await desk.more();
    expect([desk.chats.length, desk.hasMore]).toEqual([100, false]);
  });
});
