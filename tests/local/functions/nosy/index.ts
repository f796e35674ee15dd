/** A function for the tests of the functions host: tries what a hosted function may not do. */

const attempts: Record<string, () => unknown> = {
  "read a file": () => Deno.readTextFileSync("/etc/hostname"),
  "read the folder it is in": () => [...Deno.readDirSync(new URL(".", import.meta.url))],
  "write a file": () => Deno.writeTextFileSync("/tmp/eve-gateway-nosy", ""),
  "run a program": () => new Deno.Command("/bin/true").outputSync(),
  "load a library": () => Deno.dlopen("libc.so.6", {}),
  "ask for the host's name": () => Deno.hostname(),
  "import a file by a name made up at run time": () =>
    import(`file://${Deno.env.get("NO_SUCH") ?? "/etc/hostname"}.ts`),
};

export default {
  async fetch(): Promise<Response> {
    const outcomes: Record<string, string> = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        await attempt();
        outcomes[name] = "allowed";
      } catch (error) {
        outcomes[name] = error instanceof Error && error.message.includes("Requires")
          ? "refused"
          : String(error);
      }
    }
    return Response.json({ outcomes, environment: Deno.env.toObject() });
  },
};
