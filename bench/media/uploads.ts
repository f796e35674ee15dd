export interface Uploads {
  ms_more: number;
}
// deno-lint-ignore require-await
export async function uploads(_quick: boolean, _say: (line: string) => void): Promise<Uploads | null> {
  return null;
}
