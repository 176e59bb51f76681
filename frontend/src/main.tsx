import "./page/tokens.css";
import "./page/base.css";
import "./page/layout.css";
import "./page/sidebar.css";
import "./page/composer.css";
import "./page/attachments.css";
import "./page/conversation.css";
import "./page/question.css";
import "./page/markdown.css";
import "./page/tools.css";
import "./page/overlays.css";
import "./page/identity.css";
import "./page/small.css";
import { render } from "preact";
import { App } from "./page/App.tsx";
import { OPERATIONS } from "./page/address.ts";
import { Page, PageProvider } from "./page/page.ts";
import { PARTS } from "./parts.ts";
import { applyPreferences } from "./page/preferences.ts";

applyPreferences();
/** The operators' page is loaded only at its address. */
const isOperations = location.hash === OPERATIONS;
window.addEventListener("hashchange", () => {
  if ((location.hash === OPERATIONS) !== isOperations) location.reload();
});
const root = document.getElementById("app");
if (root && isOperations) {
  const { Operations } = await import("./operations/Operations.tsx");
  render(<Operations />, root);
} else if (root) {
  const page = new Page(PARTS);
  render(
    <PageProvider value={page}>
      <App />
    </PageProvider>,
    root,
  );
  page.start();
}
