import { createContext, useContext } from "react";
import type { Api } from "./api/api.ts";
import type { StorageApi } from "./api/storage.ts";
import type { GraphApi } from "./api/graph.ts";
import type { VisionApi } from "./api/vision.ts";
import type { Config } from "./config.ts";
import type { Auth } from "./session.ts";

export interface Console {
  config: Config;
  auth: Auth;
  api: Api;
  files: StorageApi;
  vision: VisionApi;
  graph: GraphApi;
}

const Context = createContext<Console | null>(null);

export const ConsoleProvider = Context.Provider;

/** The project that the page talks to. Throws outside of the provider: a mistake in the page. */
export function useConsole(): Console {
  const value = useContext(Context);
  if (!value) throw new Error("useConsole outside of ConsoleProvider");
  return value;
}
