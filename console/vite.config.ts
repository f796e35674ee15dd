import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // Relative, so that the same files serve at the root of a host and in a folder of one.
  base: "./",
  build: { target: "es2022", sourcemap: false },
});
