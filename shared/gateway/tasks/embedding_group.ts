import type { EmbedItem } from "../../contract/embedding.ts";
import type { EmbeddingProvider, ProviderEmbedding } from "../../providers/provider.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Destination } from "./task.ts";

/** What Google takes in one call. */
export const MAX_GROUP = 100;
/**
 * How long the first text waits for the others in ms: their reservations come in a few answers of the database, milliseconds apart. A call
 * for each text takes some ten times as long.
 */
const GATHER_MS = 25;

interface Wanted {
  to: Destination;
  item: EmbedItem;
  /** That were booked. */
  tokens: number;
  resolve: (embedding: ProviderEmbedding) => void;
  reject: (thrown: unknown) => void;
}

/**
 * Texts of one request that start at the same time with the same key go upstream in one call. Each has a reservation of its own all the same:
 * upstream counts each text of a batch as a request.
 */
export class EmbeddingGroups {
  readonly #clock: Clock;
  readonly #gathering = new Map<string, Wanted[]>();
  /** Texts that may still come; none is waited for where there is one alone. */
  expected = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws as `EmbeddingProvider.embed`; what ends one of a group ends all of it */
  embed(
    provider: EmbeddingProvider,
    to: Destination,
    item: EmbedItem,
    tokens: number,
  ): Promise<ProviderEmbedding> {
    if (provider.embedMany === undefined || this.expected <= 1) return provider.embed({ ...to, item });
    // Not every upstream has vectors of several lengths in one call.
    const place = JSON.stringify([to.model, to.secret, to.settings, item.outputDimensionality]);
    return new Promise((resolve, reject) => {
      const group = this.#gathering.get(place) ?? [];
      group.push({ to, item, tokens, resolve, reject });
      if (group.length >= Math.min(this.expected, MAX_GROUP)) return this.#send(provider, place, group);
      if (group.length > 1) return;
      this.#gathering.set(place, group);
      const send = () => this.#send(provider, place, group);
      this.#clock.sleep(GATHER_MS).then(send, send);
    });
  }

  #send(provider: EmbeddingProvider, place: string, group: Wanted[]): void {
    if (this.#gathering.get(place) === group) this.#gathering.delete(place);
    const [first] = group;
    if (first === undefined) return;
    const wanted = group.splice(0);
    called(provider, wanted).then(
      (embeddings) => wanted.forEach(({ resolve }, n) => resolve(embeddings[n]!)),
      (thrown) => wanted.forEach(({ reject }) => reject(thrown)),
    );
  }
}

async function called(provider: EmbeddingProvider, wanted: Wanted[]): Promise<ProviderEmbedding[]> {
  const { to, item } = wanted[0]!;
  if (wanted.length === 1) return [await provider.embed({ ...to, item })];
  // They are of one request: what ends one of them ends the others, too.
  const signal = AbortSignal.any(wanted.map((one) => one.to.signal));
  const { embeddings, usage } = await provider.embedMany!({
    ...to,
    signal,
    items: wanted.map((one) => one.item),
  });
  const booked = wanted.reduce((sum, { tokens }) => sum + tokens, 0);
  return embeddings.map((embedding, n) => {
    if (usage === null) return { embedding, usage };
    // Upstream tells the sum: each has its share, as it was booked.
    const inputTokens = Math.round(usage.inputTokens * wanted[n]!.tokens / Math.max(booked, 1));
    return { embedding, usage: { ...usage, inputTokens, totalTokens: inputTokens } };
  });
}
