/** What a consumer may use: models (`llm`), files, chats, analyses of pictures, what comes in from outside. */
export const SCOPES = ["llm", "media", "chats", "vision", "intake"] as const;
export type ScopeName = (typeof SCOPES)[number];

/**
 * Who acts on a tenant's things, as the database is told: it decides for which tenant they may, in the transaction that acts.
 * `project`: the project's secret key, for all tenants. `consumer`: for its own, with the scope that is needed; `token_id`: it calls with
 * a scoped token. `user`: signed in, for the tenants they are a member of; an administrator for all.
 */
export type Actor =
  | { kind: "project" }
  | { kind: "consumer"; consumer_id: string; token_id: string | null }
  | { kind: "user"; user_id: string };

/** An actor by a name that is theirs alone: for logs, and for anyone who is charged. */
export function actorName(actor: Actor): string {
  switch (actor.kind) {
    case "project":
      return "project";
    case "consumer":
      return actor.consumer_id;
    case "user":
      return actor.user_id;
  }
}
