/** Where a request stands in a trace that goes through several programs (W3C Trace Context). */
export interface Trace {
  /** 32 hexadecimal digits: the client's, or made here if it has none. */
  traceId: string;
  /** 16 hexadecimal digits: the gateway's own part in the trace. */
  spanId: string;
  /** The client's span; null: the trace begins here. */
  parentSpanId: string | null;
}
