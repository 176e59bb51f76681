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
import { Page, PageProvider } from "./page.ts";
import { applyPreferences } from "./preferences.ts";

applyPreferences();
const page = new Page();
const root = document.getElementById("app");
if (root) {
  render(
    <PageProvider value={page}>
      <App />
    </PageProvider>,
    root,
  );
}
page.start();
