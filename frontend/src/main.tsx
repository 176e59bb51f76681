import "./page/tokens.css";
import "./page/choices.css";
import "./page/base.css";
import "./page/select.css";
import "./page/layout.css";
import "./page/sidebar.css";
import "./page/composer.css";
import "./page/conversation.css";
import "./page/markdown.css";
import "./page/tools.css";
import "./page/overlays.css";
import "./page/identity.css";
import "./page/small.css";
import { render } from "preact";
import { App } from "./page/App.tsx";
import { OPERATIONS } from "./page/address.ts";
import { fetchMarkdown } from "./page/Items.tsx";
import { Page, PageProvider } from "./page/page.ts";
import { PARTS } from "./parts.ts";
import { applyPreferences } from "./page/preferences.ts";

/** The operators' page is loaded only at its address. */
const isOperations = location.hash === OPERATIONS;
window.addEventListener("hashchange", () => {
  if ((location.hash === OPERATIONS) !== isOperations) location.reload();
});

async function drawOperations(root: HTMLElement): Promise<void> {
  const { Operations } = await import("./operations/Operations.tsx");
  render(<Operations />, root);
}

// Somebody comes back to a conversation: what draws it is fetched along with it.
if (location.hash !== "" && !isOperations) void fetchMarkdown().catch(() => undefined);

function drawChat(root: HTMLElement): void {
  const page = new Page(PARTS);
  render(
    <PageProvider value={page}>
      <App />
    </PageProvider>,
    root,
  );
  page.start();
  if (page.shared === null) void import("./page/notify.ts").then(({ watch }) => watch(page), () => undefined);
}

// The reader's language comes first: nothing is drawn in another one and then anew. Drawing is a task of its own: the
// scripts that were read just now have held the browser up already.
void applyPreferences().then(() => {
  setTimeout(() => {
    const root = document.getElementById("app");
    if (root) void (isOperations ? drawOperations(root) : drawChat(root));
    void import("./page/select-lists.css").catch(() => undefined); // nobody opens one before there is a page
  });
});
