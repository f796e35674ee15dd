/** What is wrong with the gateway in a repository, seen from its files alone. */
import { hashOf } from "./hash.ts";
import type { Lock } from "./lock.ts";
import { CONFIG, MIGRATIONS, type Repository } from "./repository.ts";

export interface Finding {
  level: "ok" | "warning" | "error";
  message: string;
}

export function examine(repository: Repository, lock: Lock): Finding[] {
  const findings: Finding[] = [];
  const say = (level: Finding["level"], message: string) => findings.push({ level, message });
  const states = Object.entries(lock.files).map(([path, sha256]) => {
    const text = repository.read(path);
    return { path, state: text === undefined ? "missing" : hashOf(text) === sha256 ? "same" : "changed" };
  });
  const missing = states.filter(({ state }) => state === "missing");
  const changed = states.filter(({ state }) => state === "changed");
  if (missing.length > 0) {
    say(
      "error",
      `${missing.length} of the gateway's files are missing, ${
        missing[0]!.path
      } first: take them back from git.`,
    );
  }
  for (const { path } of changed) {
    say("warning", `${path} is not as version ${lock.version} brought it: an update will ask about it.`);
  }
  if (missing.length + changed.length === 0) {
    say("ok", `${states.length} files are as version ${lock.version} brought them.`);
  }

  const config = repository.read(CONFIG) ?? "";
  if (lock.config !== "" && config.includes(lock.config)) {
    say("ok", `${CONFIG} has ${lock.functions.join(", ")}.`);
  } else {say(
      "error",
      `The gateway's block in ${CONFIG} is not as it was added: without it callers are refused by the platform's check of JSON Web Tokens.`,
    );}

  const lost = Object.values(lock.migrations).filter(({ file }) => repository.read(file) === undefined);
  const edited = Object.values(lock.migrations).filter(({ file, sha256 }) => {
    const text = repository.read(file);
    return text !== undefined && hashOf(text) !== sha256;
  });
  for (const { file } of lost) {
    say(
      "error",
      `${file} is missing: "supabase db push" will refuse a database that has had it. Take it back from git.`,
    );
  }
  for (const { file } of edited) {
    say(
      "error",
      `${file} was changed: databases that have had it do not get the change. Take it back from git.`,
    );
  }
  const versions = new Map<string, string>();
  for (const name of repository.list(MIGRATIONS)) {
    const version = name.match(/^(\d+)_.*\.sql$/)?.[1];
    if (version === undefined) continue;
    if (versions.has(version)) {
      say(
        "error",
        `${
          versions.get(version)
        } and ${name} have one version: "supabase db push" applies only one of them. Rename yours.`,
      );
    }
    versions.set(version, name);
  }
  if (lost.length + edited.length === 0) {
    say("ok", `${Object.keys(lock.migrations).length} migrations are there.`);
  }
  return findings;
}
