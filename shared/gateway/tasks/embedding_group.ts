import type { EmbedItem } from "../../contract/embedding.ts";
import type { EmbeddingProvider, ProviderEmbedding } from "../../providers/provider.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Destination } from "./task.ts";

/** What Google takes in one call. */
export const MAX_GROUP = 100;
/**
 * How long the first text waits for others in ms, unless all have come: their reservations come in a few answers of the database. Below what a
 * start may be late by, and a fraction of what a call for each text would take.
 */
const HAND_OVER_MS = 100;

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
  readonly #open = new Map<string, { provider: EmbeddingProvider; wanted: Wanted[] }>();
  /** Texts that may still come: where there are none, nobody is waited for. */
  #toCome = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** So many texts begin now, side by side. */
  begin(texts: number): void {
    this.#toCome = texts;
  }

  /** One of them has ended without a vector, and does not come any more. */
  leave(): void {
    this.#toCome--;
    this.#sendIfAllAreHere();
  }

  /** @throws as `EmbeddingProvider.embed`; what ends one of a group ends all of it */
  embed(
    provider: EmbeddingProvider,
    to: Destination,
    item: EmbedItem,
    tokens: number,
  ): Promise<ProviderEmbedding> {
    this.#toCome--;
    // Not every upstream has vectors of several lengths in one call.
    const place = JSON.stringify([to.model, to.secret, to.settings, item.outputDimensionality]);
    return new Promise((resolve, reject) => {
      const group = this.#open.get(place) ?? { provider, wanted: [] };
      group.wanted.push({ to, item, tokens, resolve, reject });
      this.#open.set(place, group);
      if (group.wanted.length >= (provider.embedMany === undefined ? 1 : MAX_GROUP)) this.#send(place);
      this.#sendIfAllAreHere();
      if (group.wanted.length !== 1 || this.#open.get(place) !== group) return;
      const send = () => this.#open.get(place) === group && this.#send(place);
      this.#clock.sleep(HAND_OVER_MS).then(send, send);
    });
  }

  #sendIfAllAreHere(): void {
    if (this.#toCome > 0) return;
    for (const place of [...this.#open.keys()]) this.#send(place);
  }

  #send(place: string): void {
    const group = this.#open.get(place);
    this.#open.delete(place);
    if (group === undefined) return;
    const { provider, wanted } = group;
    called(provider, wanted).then(
      (embeddings) => wanted.forEach(({ resolve }, n) => resolve(embeddings[n]!)),
      (thrown) => {
        // Each may be tried again.
        this.#toCome += wanted.length;
        wanted.forEach(({ reject }) => reject(thrown));
      },
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
