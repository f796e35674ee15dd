/**
 * What a generator yields, as a body: a piece is made when the reader wants it, so one that reads slowly slows it down, and
 * one that leaves ends it. What goes wrong before the first piece is thrown.
 *
 * @param failed the last piece where something goes wrong later; absent: the body errs
 */
export async function streamOf<Piece>(
  pieces: AsyncIterator<Piece>,
  failed?: (thrown: unknown) => Piece,
): Promise<ReadableStream<Piece>> {
  let first: IteratorResult<Piece> | null = await pieces.next();
  return new ReadableStream<Piece>({
    async pull(controller) {
      try {
        const step = first ?? await pieces.next();
        first = null;
        if (step.done) controller.close();
        else controller.enqueue(step.value);
      } catch (thrown) {
        if (failed === undefined) throw thrown;
        controller.enqueue(failed(thrown));
        controller.close();
      }
    },
    async cancel() {
      await pieces.return?.();
    },
  }, { highWaterMark: 0 });
}

/** The same of texts, in UTF-8. */
export function streamOfTexts(texts: AsyncIterable<string>): Promise<ReadableStream<Uint8Array>> {
  return streamOf(encoded(texts));
}

async function* encoded(texts: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const text of texts) yield encoder.encode(text);
}
