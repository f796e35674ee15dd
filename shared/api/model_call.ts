/** Headers of a request by which its sender is known, and its trace. */
const CREDENTIALS = ["authorization", "apikey", "traceparent", "x-forwarded-for"];

/** What a call of a model needs to be the same caller's. */
export function credentialsOf(request: Request): Record<string, string> {
  const credentials: Record<string, string> = {};
  for (const name of CREDENTIALS) {
    const value = request.headers.get(name);
    if (value !== null) credentials[name] = value;
  }
  return credentials;
}

/** An answer of the function that makes calls, as an answer of this one. */
export function passedOn(answer: Response): Response {
  const headers = new Headers(answer.headers);
  // Of the way from there to here; the body is as it was before it.
  for (const name of ["content-encoding", "content-length", "transfer-encoding", "connection"]) {
    headers.delete(name);
  }
  return new Response(answer.body, { status: answer.status, headers });
}
