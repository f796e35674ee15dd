/** Who administers the gateway: a person who is signed in, or the project itself by its secret key. */
export interface Administrator {
  kind: "user" | "project";
  /** Of the user; null: the project. */
  id: string | null;
  email: string | null;
  /** For the history: an e-mail address, or the name of the key. */
  name: string;
}
