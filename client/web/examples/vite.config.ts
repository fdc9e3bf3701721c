import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const dist = (file: string) => fileURLToPath(new URL(`../dist/${file}`, import.meta.url));

// Outside this repository: npm install @halcyon/client, and no alias. The package's worker and module lie beside its
// code and are found from there, so Vite must not bundle it ahead of time.
export default defineConfig({
  base: "./",
  resolve: { alias: { "@halcyon/client/react": dist("react.js"), "@halcyon/client": dist("index.js") } },
  optimizeDeps: { exclude: ["@halcyon/client"] },
  esbuild: { jsx: "automatic" },
  worker: { format: "es" },
  build: { target: "es2022", modulePreload: { polyfill: false } },
  server: { fs: { allow: [".."] } },
});
