import { defineConfig } from "vite";

/** The widget is one classic script: a shop's page includes it with one tag. */
export default defineConfig({
  build: {
    target: "es2022",
    emptyOutDir: false,
    reportCompressedSize: false,
    lib: { entry: "src/apps/product_chat/widget/main.ts", formats: ["iife"], name: "AgentGatewayChatScript", fileName: () => "widget.js" },
  },
});
