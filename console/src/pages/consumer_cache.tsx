import { Button, Checkbox, Group, Select, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useAction } from "../parts/mutation.ts";
import { Loaded } from "../parts/states.tsx";

/** Seconds; `asked`: only calls that ask for it; 0: nothing, whatever they ask. */
const TTLS = { asked: null, hour: 3_600, day: 86_400, week: 604_800, month: 2_592_000, never: 0 } as const;
type Ttl = keyof typeof TTLS;

/** How long a consumer's answers are kept, what that has saved, and what is there given up. */
export function ConsumerCache({ consumer }: { consumer: string }) {
  const { api } = useConsole();
  const cache = useQuery({
    queryKey: ["cache", consumer],
    queryFn: ({ signal }) => api.get("/cache", { consumer }, signal),
  });
  return (
    <Loaded query={cache}>
      {({ consumers, totals }) => {
        const row = consumers.find((one) => one.consumer === consumer) ?? null;
        return <Kept key={JSON.stringify(row)} consumer={consumer} row={row} totals={totals} />;
      }}
    </Loaded>
  );
}

function Kept({ consumer, row, totals }: {
  consumer: string;
  row: { ttl_s: number; by_tenant: boolean } | null;
  totals: { hits: number; misses: number };
}) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [seconds, setSeconds] = useState<number | null>(row?.ttl_s ?? null);
  const [byTenant, setByTenant] = useState(row?.by_tenant ?? false);
  const [model, setModel] = useState<string | null>(null);
  const known = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => api.get("/models", {}, signal),
    staleTime: 60_000,
  });
  const keep = useAction(
    () => api.post("/cache/consumer", { name: consumer, ttl_s: seconds, by_tenant: byTenant }),
    { touches: ["cache"], done: t("cache.kept"), failed: t("consumers.failed") },
  );
  const flush = useAction(
    () => api.post("/cache/flush", { consumer, ...(model !== null && { model }) }),
    {
      touches: ["cache"],
      done: ({ deleted }) => ({ message: t("cache.flushed", { count: deleted }) }),
      failed: t("consumers.failed"),
    },
  );
  const named = (Object.keys(TTLS) as Ttl[]).find((name) => TTLS[name] === seconds);
  return (
    <Stack gap="xs" mt="lg">
      <Title order={3} size="h5">{t("cache.title")}</Title>
      <Text size="xs" c="dimmed">
        {t("cache.about", {
          hits: format.number(totals.hits),
          calls: format.number(totals.hits + totals.misses),
        })}
      </Text>
      <Select
        label={t("cache.ttl")}
        data={[
          ...(Object.keys(TTLS) as Ttl[]).map((name) => ({ value: name, label: t(`cache.ttls.${name}`) })),
          // As the command line may have set it.
          ...(named === undefined
            ? [{ value: "other", label: t("cache.seconds", { count: seconds ?? 0 }) }]
            : []),
        ]}
        value={named ?? "other"}
        allowDeselect={false}
        onChange={(name) => name !== null && name in TTLS && setSeconds(TTLS[name as Ttl])}
      />
      <Checkbox
        label={t("cache.by_tenant")}
        checked={byTenant}
        disabled={seconds === null || seconds === 0}
        onChange={(event) => setByTenant(event.currentTarget.checked)}
      />
      <Group justify="flex-end">
        <Button variant="default" loading={keep.isPending} onClick={() => keep.mutate(undefined)}>
          {t("cache.keep")}
        </Button>
      </Group>
      <Group align="flex-end">
        <Select
          label={t("cache.of_model")}
          placeholder={t("all")}
          data={known.data?.models.map(({ model }) => model) ?? []}
          value={model}
          clearable
          onChange={setModel}
        />
        <Button
          variant="default"
          color="red"
          loading={flush.isPending}
          onClick={() => flush.mutate(undefined)}
        >
          {t("cache.flush")}
        </Button>
      </Group>
    </Stack>
  );
}
