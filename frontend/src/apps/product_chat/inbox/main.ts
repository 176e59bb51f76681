/** The staff's inbox: every chat of the shop, live; answer, take over, hand back, set its status. */

import { directionOf } from "../../../core/language.ts";
import { NotLoggedIn, StaffApi } from "./api.ts";
import { NewsBell } from "./bell.ts";
import { StaffDesk } from "./desk.ts";
import { make, press } from "./dom.ts";
import { ChatList } from "./list.ts";
import { ChatPane } from "./pane.ts";
import { inboxLanguage, say, storage } from "./words.ts";

const root = document.querySelector<HTMLElement>("#inbox");
const api = new StaffApi();
const desk = new StaffDesk(api);
const bell = new NewsBell();
let list: ChatList | null = null;
let pane: ChatPane | null = null;

function applyLook(): void {
  const html = document.documentElement;
  html.lang = inboxLanguage;
  html.dir = directionOf(inboxLanguage);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = storage.getItem("agw.theme");
  const show = (): void => {
    html.dataset["theme"] = chosen === "light" || chosen === "dark" ? chosen : dark.matches ? "dark" : "light";
  };
  dark.addEventListener("change", show);
  show();
}

function drawLogin(trouble: string): void {
  list = pane = null;
  const name = make("input", { name: "username", className: "field", autocomplete: "username", required: true });
  const password = make("input", { name: "password", className: "field", type: "password", autocomplete: "current-password", required: true });
  const note = make("p", { id: "note" }, trouble);
  note.setAttribute("role", "alert");
  const form = make(
    "form", { className: "login" }, make("h1", {}, say("inbox")), make("label", {}, say("name"), name),
    make("label", {}, say("password"), password), make("button", { type: "submit", className: "button primary" }, say("logIn")), note,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    api.logIn(name.value, password.value).then(begin, (error: Error) => (note.textContent = error.message));
  });
  root?.replaceChildren(form);
  document.title = say("inbox");
}

function drawDesk(): void {
  const sound = press(say("sound"), () => {
    bell.toggle();
    sound.setAttribute("aria-pressed", String(bell.isOn));
  }, "button small");
  sound.setAttribute("aria-pressed", String(bell.isOn));
  const out = press(say("logOut"), () => logOut(""), "button small");
  list = new ChatList(desk, [sound]);
  pane = new ChatPane(desk);
  const keys = make("p", { className: "quiet keys" }, say("keys"));
  list.filters.append(keys, out);
  root?.replaceChildren(make("h1", { className: "sr-only" }, say("inbox")), list.filters, list.list, pane.pane, pane.beside);
  draw();
}

function draw(): void {
  if (!root || !list || !pane) return;
  root.dataset["pane"] = desk.current ? "chat" : "list";
  list.draw();
  pane.draw();
  const waiting = desk.waitingCount;
  document.title = waiting > 0 ? `(${waiting}) ${say("inbox")}` : say("inbox");
}

function logOut(trouble: string): void {
  api.logOut();
  desk.end();
  drawLogin(trouble);
}

async function begin(): Promise<void> {
  try {
    await desk.begin();
  } catch (error) {
    drawLogin(error instanceof NotLoggedIn ? "" : String(error));
    return;
  }
  drawDesk();
}

function onKey(event: KeyboardEvent): void {
  if (!list || !pane || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target as HTMLElement;
  if (event.key === "Escape" && target !== list.search) return list.focus();
  if (target.closest("input, textarea, select")) return;
  const acts: Record<string, () => void> = {
    "/": () => list?.search.focus(),
    j: () => list?.step(1),
    k: () => list?.step(-1),
    r: () => pane?.input?.focus(),
  };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

applyLook();
desk.subscribe(draw);
desk.onNews = () => bell.ring();
desk.onLoggedOut = () => logOut("");
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && list) desk.wake();
});
void begin();
