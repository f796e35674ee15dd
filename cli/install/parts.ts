/** The parts that a project may have: which functions each needs. The tables of all parts are made always; unused they cost nothing. */
import { InstallError } from "./error.ts";

export const PARTS = {
  gateway: {
    adds: "calls of models, keys and limits, tokens for notebooks, maintenance, the console's back end",
    functions: ["llm-invoke", "issue-kaggle-token", "maintenance", "admin"],
    needs: [],
  },
  jobs: { adds: "queued calls, batches and webhooks", functions: ["worker"], needs: ["gateway"] },
  media: { adds: "files in S3 or the database, within a quota", functions: ["api"], needs: ["gateway"] },
  chats: {
    adds: "conversations kept with row-level security",
    functions: ["api"],
    needs: ["gateway", "media"],
  },
  vision: {
    adds: "posts and their pictures, looked at within a budget",
    functions: ["api", "worker"],
    needs: ["gateway", "jobs", "media"],
  },
  intake: {
    adds: "posts from Telegram, crawled pages and the graph of both",
    functions: ["api", "worker", "telegram"],
    needs: ["gateway", "jobs", "media", "vision"],
  },
} as const satisfies Record<string, { adds: string; functions: readonly string[]; needs: readonly string[] }>;

export type Part = keyof typeof PARTS;

export const ALL_PARTS = Object.keys(PARTS) as Part[];

/** `jobs,chats` as parts, with those that they need, in the order above. Throws InstallError for a name it does not know. */
export function readParts(text: string): Part[] {
  const chosen = new Set<Part>(["gateway"]);
  const add = (part: Part) => {
    chosen.add(part);
    for (const other of PARTS[part].needs) add(other);
  };
  for (const name of text.split(",").map((name) => name.trim()).filter((name) => name !== "")) {
    if (name === "all") ALL_PARTS.forEach(add);
    else if (!Object.hasOwn(PARTS, name)) {
      throw new InstallError(`There is no part "${name}". The parts are: ${ALL_PARTS.join(", ")}, or all.`);
    } else add(name as Part);
  }
  return ALL_PARTS.filter((part) => chosen.has(part));
}

/** The functions of these parts, in the order above, each once. */
export function functionsOf(parts: readonly Part[]): string[] {
  return [...new Set(parts.flatMap((part) => PARTS[part].functions as readonly string[]))];
}
