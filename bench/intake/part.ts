/** What a part of the benchmark measured. */
export interface Part {
  figures: Record<string, unknown>;
  /** By name, above 0. */
  ratios: Record<string, number>;
  /** Of ratios: at least so much, or at most. */
  goals: Record<string, { least: number } | { most: number }>;
}
