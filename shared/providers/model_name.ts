/** The name by which a provider knows a model that the gateway's books name with the provider before it: `openai/gpt-5`. */
export function upstreamModel(model: string, kind: string): string {
  return model.startsWith(`${kind}/`) ? model.slice(kind.length + 1) : model;
}
