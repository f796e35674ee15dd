/** Without what the database's texts cannot hold: U+0000 and halves of characters, which models and strangers write at times. */
export function storable(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value),
    (_, each) => typeof each === "string" ? each.replaceAll("\0", "").toWellFormed() : each,
  );
}
