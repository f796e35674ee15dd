/** A model's name at its provider; the gateway's own has the provider before it: `openai/gpt-5`. */
export function upstreamModel(model: string, kind: string): string {
  return model.startsWith(`${kind}/`) ? model.slice(kind.length + 1) : model;
}
