/** How the reverse proxy tells a function's process that the client of a call has gone: see disconnects.ts for why it has to. */

/** Each call's number, in a header that the reverse proxy sets. */
export const CALL_HEADER = "x-local-call";

/** `DELETE` on this path with a call's number ends that call. Functions are below their own names, so none is here. */
export const DISCONNECTED_PATH = "/.disconnected";
