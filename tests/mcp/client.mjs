// The official TypeScript client against the gateway: one conversation, printed as one JSON object.
// node client.mjs legacy|2026-07-28 URL

const [era, address] = process.argv.slice(2);

async function connected() {
  const url = new URL(address);
  const me = { name: "gateway-tests", version: "1.0.0" };
  if (era === "legacy") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(me);
    await client.connect(new StreamableHTTPClientTransport(url));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(me, { versionNegotiation: { mode: { pin: era } } });
  await client.connect(new StreamableHTTPClientTransport(url));
  return client;
}

const client = await connected();
const { tools } = await client.listTools();
const { resources } = await client.listResources();
const read = await client.readResource({ uri: "ui://widget/cart.html" });
const first = await client.callTool({
  name: "add_to_cart",
  arguments: { product_id: "nitzat-haduvdevan:3", quantity: 2 },
});
const handle = first._meta?._sessionId;
const session = handle === undefined ? {} : { _sessionId: handle };
const cart = await client.callTool({ name: "view_cart", arguments: session });
const refused = await client.callTool({
  name: "add_to_cart",
  arguments: { product_id: "nitzat-haduvdevan:3", quantity: 0, ...session },
});
const debug = await client.callTool({ name: "debug_session", arguments: session });
console.log(
  JSON.stringify({
    tools: tools.map((tool) => tool.name),
    resources: resources.map((resource) => resource.uri),
    widget: read.contents[0].mimeType,
    total: cart.structuredContent.total,
    refused: refused.isError,
    source: debug.structuredContent.source,
  }),
);
await client.close();
