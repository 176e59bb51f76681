/** The look of the widget. A shop changes it by `--chat-*` variables on the page; nothing else of the page gets in. */

const DARK = `--surface: var(--chat-surface, #1b1e24); --text: var(--chat-text, #f0f2f5);
  --soft: var(--chat-soft, #2a2f38); --muted: var(--chat-muted, #a6afbd); --line: var(--chat-line, #3a414d);
  --accent: var(--chat-accent, #4c8bff); --on-accent: var(--chat-on-accent, #06122b);
  --danger: var(--chat-danger, #ff8a80);`;

export const STYLE = `
:host { all: initial; --accent: var(--chat-accent, #0b5fff); --on-accent: var(--chat-on-accent, #fff);
  --surface: var(--chat-surface, #fff); --text: var(--chat-text, #16181d); --soft: var(--chat-soft, #eef1f6);
  --muted: var(--chat-muted, #5a6270); --danger: var(--chat-danger, #b3261e); --radius: var(--chat-radius, 14px);
  --line: var(--chat-line, #d5dae2); font: var(--chat-font, 15px/1.45 system-ui, sans-serif); }
:host([data-theme="dark"]) { ${DARK} }
@media (prefers-color-scheme: dark) { :host(:not([data-theme])) { ${DARK} } }
* { box-sizing: border-box; font: inherit; }
.piece { display: block; content-visibility: auto; contain-intrinsic-block-size: auto 20em; }
.root { position: fixed; inset-block-end: 20px; inset-inline-end: 20px; z-index: 2147483000; color: var(--text); }
.root[data-side="start"] { inset-inline: 20px auto; }
button { cursor: pointer; border: 0; border-radius: 999px; background: var(--accent); color: var(--on-accent);
  padding: 10px 18px; min-block-size: 44px; }
button:focus-visible, textarea:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
button:disabled { opacity: .5; cursor: default; }
.badge { margin-inline-start: 8px; padding: 1px 8px; border-radius: 999px; background: var(--on-accent); color: var(--accent); }
.panel { display: flex; flex-direction: column; inline-size: min(360px, calc(100vw - 40px));
  block-size: min(520px, calc(100vh - 40px)); background: var(--surface); border: 1px solid var(--line);
  border-radius: var(--radius); box-shadow: 0 12px 40px #0004; overflow: hidden; }
[hidden] { display: none !important; }
.head { display: flex; align-items: center; gap: 8px; padding: 8px 8px 8px 16px; border-block-end: 1px solid var(--line); }
:host([dir="rtl"]) .head { padding: 8px 16px 8px 8px; }
h2 { flex: 1; margin: 0; font-weight: 600; }
.head button { background: none; color: inherit; padding: 0; min-inline-size: 44px; font-size: 20px; }
.log { flex: 1; overflow-y: auto; }
.log > ol { margin: 0; padding: 12px; display: flex; flex-direction: column; gap: 8px; list-style: none; }
.log > ol > li { max-inline-size: 85%; align-self: flex-start; }
.log > ol > li[data-sender="customer"] { align-self: flex-end; }
.log > ol > li[data-sender="system"] { align-self: center; color: var(--muted); text-align: center; }
.bubble { padding: 8px 12px; border-radius: var(--radius); background: var(--soft); white-space: pre-wrap;
  overflow-wrap: anywhere; }
[data-sender="customer"] .bubble { background: var(--accent); color: var(--on-accent); }
[data-sender="system"] .bubble { background: none; }
.intro { padding: 12px 12px 0; display: grid; gap: 8px; }
.intro p { margin: 0; padding: 8px 12px; border-radius: var(--radius); background: var(--soft); overflow-wrap: anywhere; }
.intro .away { background: none; padding-block: 0; color: var(--muted); }
.suggestions { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; margin: 0; padding: 0; }
.suggestions button, .person { background: none; color: inherit; border: 1px solid var(--line); padding: 8px 14px; text-align: start; }
.person { margin: 0 8px 8px; align-self: flex-start; font-size: .9em; }
.notice { padding: 0 16px 4px; color: var(--muted); font-size: .85em; }
.notice:empty { display: none; }
.bubble > * + * { margin-block-start: 6px; }
.bubble ul, .bubble ol { margin-block: 6px 0; padding-inline-start: 20px; white-space: normal; }
.bubble li { max-inline-size: none; animation: none; }
.bubble a { color: inherit; text-decoration: underline; }
.bubble strong { font-weight: 700; } .bubble em { font-style: italic; }
.bubble code, .bubble pre { font-family: ui-monospace, monospace; font-size: .92em; }
.bubble pre { margin: 6px 0 0; overflow-x: auto; white-space: pre; }
.who { font-size: .8em; color: var(--muted); padding-inline: 4px; }
.failed { color: var(--danger); font-size: .85em; }
.failed button { background: none; color: inherit; text-decoration: underline; padding: 4px; min-block-size: 0; }
.note { min-block-size: 1.6em; padding: 0 16px; color: var(--muted); font-size: .85em; }
form { display: flex; gap: 8px; padding: 8px; border-block-start: 1px solid var(--line); }
textarea { flex: 1; resize: none; min-block-size: 44px; max-block-size: 120px; padding: 10px 12px; color: inherit;
  background: var(--surface); border: 1px solid var(--line); border-radius: var(--radius); }
@media (max-width: 440px) { .root:has(.panel:not([hidden])) { inset: 0; }
  .panel { inline-size: 100vw; block-size: 100dvh; border: 0; border-radius: 0; } }
@media (prefers-reduced-motion: no-preference) { .log > ol > li { animation: in .15s ease-out; } }
@keyframes in { from { opacity: 0; transform: translateY(4px); } }
`;
