import type { Command } from "../command.ts";
import { CliFailure } from "../failure.ts";
import { newProfile, type Profile, profilesPath, readProfiles, writeProfiles } from "../profiles.ts";
import { table } from "../table.ts";

const source = (profile: Profile) =>
  profile.secret_key_env === undefined
    ? `the file ${profile.secret_key_file}`
    : `the variable ${profile.secret_key_env}`;

export const profileCommands: Command[] = [
  {
    name: "profiles list",
    summary: "the projects that have a name here",
    arguments: [],
    options: {},
    examples: ["profiles list"],
    run(_given, { variable }) {
      const path = profilesPath(variable);
      const profiles = [...readProfiles(path)].map(([name, profile]) => ({ name, ...profile }));
      const text = profiles.length === 0
        ? "There is no profile yet. Add one: npm run eve -- profiles add NAME --project-ref REF --key-env VARIABLE"
        : table(
          ["name", "project", "its secret key is in"],
          profiles.map((profile) => [profile.name, profile.url, source(profile)]),
        );
      return Promise.resolve({ json: { file: path, profiles }, text });
    },
  },
  {
    name: "profiles add",
    summary: "name a project, and where its secret key is to be found",
    about:
      "The profile keeps the name of a variable or of a file, never the key. Added again, a profile is replaced.",
    arguments: ["NAME"],
    options: {
      "project-ref": { value: "REF", help: "the project, by the twenty letters in its address" },
      url: { value: "URL", help: "the project, by its URL" },
      "key-env": { value: "VARIABLE", help: "the environment variable that holds its secret key" },
      "key-file": { value: "FILE", help: "the file that holds it, readable by you alone (chmod 600)" },
      prefix: { value: "P", help: "what the functions' names begin with, where init was given --prefix" },
    },
    examples: [
      "profiles add production --project-ref abcdefghijklmnopqrst --key-env EVE_PRODUCTION_KEY",
      "profiles add staging --url https://eve.example.org --key-file ~/.config/eve-gateway/staging.key",
      "keys list --profile production",
    ],
    run(given, { variable }) {
      const name = given.arguments[0]!;
      const profile = newProfile(name, {
        url: given.option("url"),
        projectRef: given.option("project-ref"),
        keyEnv: given.option("key-env"),
        keyFile: given.option("key-file"),
        prefix: given.option("prefix"),
      });
      const path = profilesPath(variable);
      writeProfiles(path, readProfiles(path).set(name, profile));
      return Promise.resolve({
        json: { name, ...profile },
        text: `${name} is ${profile.url}, with the secret key from ${
          source(profile)
        }. Try it: npm run eve -- doctor --profile ${name}`,
      });
    },
  },
  {
    name: "profiles remove",
    summary: "forget a name; the project stays as it is",
    arguments: ["NAME"],
    options: {},
    examples: ["profiles remove staging"],
    run(given, { variable }) {
      const name = given.arguments[0]!;
      const path = profilesPath(variable);
      const profiles = readProfiles(path);
      if (!profiles.delete(name)) throw new CliFailure(`There is no profile ${name}. See \`profiles list\`.`);
      writeProfiles(path, profiles);
      return Promise.resolve({ json: { removed: name }, text: `${name} was forgotten.` });
    },
  },
];
