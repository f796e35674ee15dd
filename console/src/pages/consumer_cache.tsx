import { Button, Checkbox, Group, Select, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict } from "../parts/conflict.tsx";
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
        return <Kept consumer={consumer} row={row} totals={totals} />;
      }}
    </Loaded>
  );
}

/** Null: the consumer has no cache of its own. */
type Row = { ttl_s: number; by_tenant: boolean } | null;

function Kept({ consumer, row, totals }: {
  consumer: string;
  row: Row;
  totals: { hits: number; misses: number };
}) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(row);
  const [theirs, setTheirs] = useState<{ row: Row } | null>(null);
  const [seconds, setSeconds] = useState<number | null>(row?.ttl_s ?? null);
  const [byTenant, setByTenant] = useState(row?.by_tenant ?? false);
  const [model, setModel] = useState<string | null>(null);
  const known = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => api.get("/models", {}, signal),
    staleTime: 60_000,
  });
  const keep = useAction(
    () =>
      api.post("/cache/consumer", {
        name: consumer,
        ttl_s: seconds,
        by_tenant: byTenant,
        seen: { ttl_s: base?.ttl_s ?? null, by_tenant: base?.by_tenant ?? null },
      }),
    {
      touches: ["cache"],
      done: ({ ttl_s, by_tenant }) => {
        setBase(ttl_s === null ? null : { ttl_s, by_tenant });
        return { message: t("cache.kept") };
      },
      failed: t("consumers.failed"),
      stale: async () => {
        const { consumers } = await api.get("/cache", { consumer });
        setTheirs({ row: consumers.find((one) => one.consumer === consumer) ?? null });
      },
    },
  );
  const takeTheirs = () => {
    setBase(theirs!.row);
    setSeconds(theirs!.row?.ttl_s ?? null);
    setByTenant(theirs!.row?.by_tenant ?? false);
    setTheirs(null);
  };
  const flush = useAction(
    () => api.post("/cache/flush", { consumer, ...(model !== null && { model }) }),
    {
      touches: ["cache"],
      done: ({ deleted }) => ({ message: t("cache.flushed", { count: deleted }) }),
      failed: t("consumers.failed"),
    },
  );
  const nameOf = (seconds: number | null) =>
    (Object.keys(TTLS) as Ttl[]).find((name) => TTLS[name] === seconds);
  const wordsOf = (seconds: number | null) => {
    const name = nameOf(seconds);
    return name === undefined ? t("cache.seconds", { count: seconds ?? 0 }) : t(`cache.ttls.${name}`);
  };
  const yesOrNo = (is: boolean) => t(is ? "yes" : "no");
  const named = nameOf(seconds);
  return (
    <Stack gap="xs" mt="lg">
      <Title order={3} size="h5">{t("cache.title")}</Title>
      <Text size="xs" c="dimmed">
        {t("cache.about", {
          hits: format.number(totals.hits),
          calls: format.number(totals.hits + totals.misses),
        })}
      </Text>
      {theirs && (
        <Conflict
          fields={[
            { label: t("cache.ttl"), mine: wordsOf(seconds), theirs: wordsOf(theirs.row?.ttl_s ?? null) },
            {
              label: t("cache.by_tenant"),
              mine: yesOrNo(byTenant),
              theirs: yesOrNo(theirs.row?.by_tenant ?? false),
            },
          ]}
          mine={() => {
            setBase(theirs.row);
            setTheirs(null);
          }}
          theirs={takeTheirs}
        />
      )}
      <Select
        label={t("cache.ttl")}
        data={[
          ...(Object.keys(TTLS) as Ttl[]).map((name) => ({ value: name, label: t(`cache.ttls.${name}`) })),
          // As the command line may have set it.
          ...(named === undefined ? [{ value: "other", label: wordsOf(seconds) }] : []),
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
