import { defineConfig, type Plugin } from "vite";

/** The page draws nothing without its script: waiting for it keeps a chosen theme from flashing. */
const renderBlocking: Plugin = {
  name: "render-blocking-entry",
  transformIndexHtml: {
    order: "post",
    handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
  },
};

/**
 * Who this is to the gateway is asked with the scripts, and not behind them: nothing else is asked before that is known.
 * A browser gives the answer to the request that the page then makes of the same address with the same headers.
 */
const askedEarly: Plugin = {
  name: "asked-early",
  transformIndexHtml: {
    order: "post",
    handler: (html, { path }) =>
      path === "/index.html"
        ? html.replace("</title>", '</title>\n    <link rel="preload" as="fetch" href="./api/auth" crossorigin="anonymous">')
        : html,
  },
};

/**
 * A Chromium in the locale of C says that its language is `en-US@posix`, which no formatter takes: uPlot would throw as it
 * is loaded, and the operations page stay white. Without a language a formatter takes the browser's own.
 */
const chartsInAnyLocale: Plugin = {
  name: "charts-in-any-locale",
  transform: {
    filter: { id: /\/uPlot\.esm\.js$/ },
    handler(code) {
      const written = code.replace("Intl.NumberFormat(domEnv ? nav.language : 'en-US')", "Intl.NumberFormat()");
      if (written === code) this.error("uPlot no longer makes its formatter of numbers as it did");
      return { code: written, map: null };
    },
  },
};

/**
 * What the page, the inbox and the demonstration have in common, in one file: each file is a request of its own, of which a
 * browser makes six at a time.
 */
const SHARED = /node_modules\/@?preact\/|src\/core\/(pieces|errors|i18n|english|language|storage|subscribable)\.ts|src\/page\/(preferences|brand)\.ts/;

const gateway = process.env["GATEWAY_URL"] ?? "http://127.0.0.1:8000";

export default defineConfig({
  // Relative, so that the page also works below a path of a reverse proxy.
  base: "./",
  plugins: [renderBlocking, askedEarly, chartsInAnyLocale],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: {
      input: ["index.html", "inbox.html", "demo.html"],
      output: { codeSplitting: { groups: [{ name: "shared", test: SHARED }] } },
    },
  },
  server: { proxy: { "/api": gateway, "/health": gateway, "/ws": { target: gateway, ws: true } } },
});
