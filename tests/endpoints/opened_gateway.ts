/** A stack for the tests of the endpoints. */
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { gatewayOf, type TestGateway } from "./test_gateway.ts";

/** One whose stack this process has started. */
export type OpenedGateway = TestGateway<TestStack>;

export async function openTestGateway(): Promise<OpenedGateway> {
  // Enough of a pause that a client can leave in the middle of a stream.
  return gatewayOf(await startTestStack({ emulator: { chunkDelayMs: 15 } }));
}

export async function closeTestGateway(gateway: OpenedGateway | undefined): Promise<void> {
  await gateway?.sql.end({ timeout: 5 });
  await gateway?.stack.stop();
}
