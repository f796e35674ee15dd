import postgres from "postgres";

/** Runs in a transaction with a role that the REST API takes on, as a signed-in user's own client or an anonymous one (`sub` null). */
export async function asRole<Value>(
  databaseUrl: string,
  role: string,
  sub: string | null,
  run: (sql: postgres.TransactionSql) => Promise<Value>,
) {
  const url = new URL(databaseUrl);
  url.username = "authenticator";
  const pool = postgres(url.href, { max: 1, onnotice: () => {} });
  try {
    return await pool.begin(async (transaction) => {
      await transaction.unsafe(`set local role ${role}`);
      await transaction`select set_config('request.jwt.claims', ${JSON.stringify({ sub, role })}, true)`;
      return await run(transaction);
    });
  } finally {
    await pool.end();
  }
}
