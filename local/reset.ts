/** `npm run reset`: removes everything the local stack keeps, so that the next start begins from nothing. */
import { lockFolder, lockNote } from "./folder_lock.ts";
import { endLeftoverServer } from "./postgres.ts";
import { removeHomeElsewhere } from "./postgres_place.ts";
import { dataDirFromEnvironment } from "./settings.ts";

/** What marks a folder as one of ours. */
const OURS = "keys.json";
/** What the stack makes. Nothing else is touched, whatever folder EVE_DATA_DIR happens to name. */
const MADE_HERE = [
  "demo_administrator.json",
  "env",
  "functions",
  "keys.json",
  "postgres",
  "postgres.location",
  "postgres.password",
  "postgres.unfinished",
  "seeded.json",
  "stack.json",
  "stack.log",
  "stack.log.old",
  "lock",
];

const dataDir = dataDirFromEnvironment();
try {
  await Deno.stat(`${dataDir}/${OURS}`);
} catch {
  console.log(`Nothing to remove: there is no local stack in ${dataDir}.`);
  Deno.exit(0);
}
const lock = await lockFolder(dataDir);
if (!lock) {
  console.error(
    `The stack of ${dataDir} is running (${await lockNote(dataDir)}): stop it first, then reset.`,
  );
  Deno.exit(1);
}
await endLeftoverServer(dataDir);
await removeHomeElsewhere(dataDir);
for (const name of MADE_HERE) {
  await Deno.remove(`${dataDir}/${name}`, { recursive: true }).catch(ignoreMissing);
}
await Deno.remove(dataDir).catch(() => console.log(`Kept ${dataDir}: there are other files in it.`));
console.log("Removed the local stack's data; npm start begins from nothing.");

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
