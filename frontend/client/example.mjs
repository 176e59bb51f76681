// Sends one message and prints the answer:
//   node example.mjs http://localhost:8080 "/echo hello" [agw_…]
import { Api, Conversation, newId } from "@agent-gateway/client";

const [baseUrl = "http://localhost:8080", message = "/echo hello", key] = process.argv.slice(2);
const api = new Api({ baseUrl, headers: () => (key ? { Authorization: `Bearer ${key}` } : {}) });
const conversation = new Conversation({ api, sessionId: newId() });

const answer = new Promise((resolve, reject) => {
  conversation.subscribe(() => {
    const failure = conversation.outgoing.find(({ error }) => error !== null);
    if (failure) reject(failure.error);
    const last = conversation.chat.items.at(-1);
    if (last?.kind === "message" && last.sender === "agent" && !last.is_streaming) resolve(last.text);
  });
});
conversation.start();
await conversation.send(message);
console.log(await answer);
conversation.stop();
