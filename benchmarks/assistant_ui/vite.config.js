import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "react" } },
  build: { target: "es2022", reportCompressedSize: false, modulePreload: { polyfill: false } },
});
