/** Randomness that is the same in every run. */

/** Uniform in [0, 1). */
export type Random = () => number;

/** A generator (mulberry32) of its own for every list of seeds, so that one part's draws never shift another's. */
export function seededRandom(...seeds: number[]): Random {
  let state = 0x9e3779b9;
  for (const seed of seeds) {
    state = Math.imul(state ^ seed, 0x85ebca6b) ^ (state >>> 13);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Uniform between the two, the upper one excluded. */
export const between = (random: Random, least: number, most: number): number =>
  least + random() * (most - least);

/** A pause of a Poisson process with `perMinute` events a minute, in milliseconds. */
export const poissonPause = (random: Random, perMinute: number): number =>
  -Math.log(1 - random()) * 60_000 / perMinute;
