/** Who calls, after identity has verified and authorised the credential. */
export interface Caller {
  /** `project`: the project's own secret key, which may do everything. `service`: a consumer by its own key. `notebook`: a consumer by a token. */
  kind: "project" | "service" | "notebook";
  /** The consumer that is charged. Null: the project itself. */
  consumerId: string | null;
  /** The scoped token that is charged as well. */
  tokenId: string | null;
  /** For logs: the name of the key or consumer, never a secret. */
  name: string;
}

/** A unique name for the one who is charged for a call: all tokens of a consumer are one caller. */
export function chargedName({ consumerId }: Caller): string {
  return consumerId ?? "project";
}

/** Who administers the gateway: a person who is signed in, or the project itself by its secret key. */
export interface Administrator {
  kind: "user" | "project";
  /** Of the user; null: the project. */
  id: string | null;
  email: string | null;
  /** For the history: an e-mail address, or the name of the key. */
  name: string;
}
