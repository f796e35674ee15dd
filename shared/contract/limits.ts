/** How full one limit of a lane is. Null limit: unlimited, and then nothing is left to count. */
export interface Gauge {
  limit: number | null;
  remaining: number | null;
  /** Milliseconds until the limit is wholly free again. */
  resetMs: number | null;
}

/** The limits of the lane that served or refused a request: requests and input tokens a minute, requests a day. */
export interface Limits {
  requests: Gauge;
  tokens: Gauge;
  requestsDay: Gauge;
}
