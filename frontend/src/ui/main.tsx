import "./tokens.css";
import "./base.css";
import "./layout.css";
import "./sidebar.css";
import "./composer.css";
import "./conversation.css";
import "./markdown.css";
import "./tools.css";
import "./overlays.css";
import "./identity.css";
import "./small.css";
import { render } from "preact";
import { App } from "./App.tsx";
import { OPERATIONS } from "./operations/address.ts";
import { Page, PageProvider } from "./page.ts";
import { applyPreferences } from "./preferences.ts";

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
  const page = new Page();
  render(
    <PageProvider value={page}>
      <App />
    </PageProvider>,
    root,
  );
  page.start();
}
