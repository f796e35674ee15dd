/** Error bodies are small; of anything longer, the beginning is enough. */
const MAX_ERROR_BYTES = 65_536;

/** The beginning of a refusal's body as text; what follows is not waited for. */
export async function headOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  while (text.length < MAX_ERROR_BYTES) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return text;
}
