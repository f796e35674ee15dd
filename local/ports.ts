/** TCP ports on the loopback interface. */

/** Above what programs are usually given, below where Linux hands out ports for outgoing connections (32768). */
export const LOWEST = 20_000;
export const HIGHEST = 32_000;
const TRIES = 200;

/** What keeps this user from listening on the port of 127.0.0.1, or undefined. */
export function portObstacle(port: number): "taken" | "forbidden" | undefined {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return undefined;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied ? "forbidden" : "taken";
  }
}

/** Whether this user could listen on the port of 127.0.0.1. */
export function portIsFree(port: number): boolean {
  return portObstacle(port) === undefined;
}

/** `count` free ports in a row, from a random place between the two, so that runs side by side seldom meet. */
export function freePorts(count: number, lowest = LOWEST, highest = HIGHEST): number[] {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const base = lowest + Math.floor(Math.random() * (highest - lowest - count));
    const ports = Array.from({ length: count }, (_, index) => base + index);
    if (ports.every(portIsFree)) return ports;
  }
  throw new Error(`Found no ${count} free ports in a row between ${lowest} and ${highest}.`);
}
