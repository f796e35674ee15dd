/** Names are repeated in a header: no more of them, and none that could be mistaken for something else. */
const MAX_NAMES = 20;
const PLAIN_NAME = /^[\w.$\[\]-]{1,80}$/;

/** Fields of a request that were left out of account since nothing that is asked for depends on them. */
export class IgnoredFields {
  readonly #names = new Set<string>();

  /** @param name as an error would name it: `verbosity`, `messages[].weight` */
  add(name: string): void {
    if (this.#names.size < MAX_NAMES) this.#names.add(PLAIN_NAME.test(name) ? name : "(unnamed)");
  }

  /** The response, saying in `x-eve-ignored` which they are. */
  namedIn(response: Response): Response {
    if (this.#names.size > 0) response.headers.set("x-eve-ignored", [...this.#names].join(", "));
    return response;
  }
}
