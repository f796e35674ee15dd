import "@mantine/core/styles.layer.css";
import "@mantine/notifications/styles.layer.css";
import "./console.css";
import { createTheme, type CSSVariablesResolver, MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { createClient } from "@supabase/supabase-js";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createApi } from "./api/api.ts";
import { createStorageApi } from "./api/storage.ts";
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
  dark: { "--mantine-color-dimmed": "var(--mantine-color-gray-5)" },
});

const root = createRoot(document.getElementById("root")!);
startLanguage();

function show(config: Config): void {
  const supabase = createClient(config.supabaseUrl, config.publishableKey);
  const context = {
    config,
    supabase,
    api: createApi(config, supabase),
    files: createStorageApi(createApi(config, supabase, "api")),
  };
  root.render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto" cssVariablesResolver={readableGrey}>
        <Notifications position="bottom-right" />
        <QueryClientProvider client={createQueries()}>
          <ConsoleProvider value={context}>
            <App />
          </ConsoleProvider>
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}

readConfig().then(show, (error: Error) => {
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
