import { defineConfig } from "vite";
import { oneFile } from "./vite.onefile.ts";

const nothing = new URL("./src/diagram/nothing.ts", import.meta.url).pathname;

/** Draws diagrams, in a frame of the page. Formulas inside them and a second way of placing boxes are left out: both are large. */
export default defineConfig({
  plugins: [oneFile("diagram.html", "Diagram", "body { margin: 0 }")],
  define: { "process.env.NODE_ENV": '"production"' },
  resolve: { alias: { katex: nothing, "elkjs/lib/elk.bundled.js": nothing, elkjs: nothing } },
  build: {
    target: "es2022",
    minify: true,
    emptyOutDir: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 8_000,
    lib: { entry: "src/diagram/main.ts", formats: ["iife"], name: "AgentGatewayDiagram", fileName: () => "diagram.js" },
    rollupOptions: { output: { codeSplitting: false } },
  },
});
