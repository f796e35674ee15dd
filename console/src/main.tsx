import "./first_page.css";
import "./console.css";
import { createTheme, type CSSVariablesResolver, MantineProvider } from "@mantine/core";
import { AuthClient } from "@supabase/auth-js";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createApi } from "./api/api.ts";
import { createGraphApi } from "./api/graph.ts";
import { createStorageApi } from "./api/storage.ts";
import { createVisionApi } from "./api/vision.ts";
import { App } from "./app.tsx";
import { type Config, readConfig } from "./config.ts";
import { ConsoleProvider } from "./console_context.tsx";
import { startLanguage } from "./i18n/language.ts";
import { createQueries } from "./queries.ts";

const theme = createTheme({
  primaryColor: "blue",
  // Filled controls must reach 4.5:1 against their text, in the dark too.
  primaryShade: { light: 8, dark: 8 },
  autoContrast: true,
  defaultRadius: "md",
  cursorType: "pointer",
  respectReducedMotion: true,
});

/** The library's own grey for lesser text misses 4.5:1 on its own backgrounds. */
const readableGrey: CSSVariablesResolver = () => ({
  variables: {},
  light: { "--mantine-color-dimmed": "var(--mantine-color-gray-7)" },
  dark: {
    "--mantine-color-dimmed": "var(--mantine-color-gray-5)",
    "--mantine-color-anchor": "var(--mantine-color-blue-3)",
  },
});

/** As long as a person looks at nothing elsewhere (api/api.ts). */
const AUTH_TIMEOUT_MS = 8_000;

const root = createRoot(document.getElementById("root")!);

function show(config: Config): void {
  // Signing in is all that is asked of Supabase's client, so the rest of it stays out.
  const auth = new AuthClient({
    url: `${config.supabaseUrl}/auth/v1`,
    headers: { apikey: config.publishableKey },
    storageKey: `sb-${new URL(config.supabaseUrl).hostname.split(".")[0]}-auth-token`,
    detectSessionInUrl: false,
    fetch: (input, init) => fetch(input, { ...init, signal: AbortSignal.timeout(AUTH_TIMEOUT_MS) }),
  });
  const context = {
    config,
    auth,
    api: createApi(config, auth),
    files: createStorageApi(createApi(config, auth, "api")),
    vision: createVisionApi(createApi(config, auth, "api")),
    graph: createGraphApi(createApi(config, auth, "api")),
  };
  root.render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto" cssVariablesResolver={readableGrey}>
        <QueryClientProvider client={createQueries()}>
          <ConsoleProvider value={context}>
            <App />
          </ConsoleProvider>
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}

Promise.all([readConfig(), startLanguage()]).then(([config]) => show(config), (error: Error) => {
  root.render(
    <main style={{ padding: "2rem", fontFamily: "system-ui" }}>
      <h1>EVE Gateway</h1>
      <p role="alert">
        The console does not know its project:{" "}
        <code>{error.message}</code>. Put a file config.json with supabase_url and publishable_key beside
        index.html.
      </p>
    </main>,
  );
});
