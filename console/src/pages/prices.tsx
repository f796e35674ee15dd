import { Button, Checkbox, Group, NumberInput, Stack, Table, Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { ModelPrice } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict, sideBySide } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";

const PRICES = ["input_usd", "cached_usd", "output_usd"] as const;

/** What models cost, each editable; those without a known price among them. */
export function Prices({ models, prices }: { models: string[]; prices: ModelPrice[] }) {
  const { t } = useTranslation();
  const [edited, setEdited] = useState<string | null>(null);
  const names = [...new Set([...prices.map(({ model }) => model), ...models])].toSorted();
  return (
    <Stack>
      <Text size="sm" c="dimmed">{t("prices.about")}</Text>
      <Table aria-label={t("prices.title")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("requests.model")}</Table.Th>
            <Table.Th ta="right">{t("prices.usd")}</Table.Th>
            <Table.Th>{t("prices.as_of")}</Table.Th>
            <Table.Th>{t("keys.actions")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {names.map((model) => (
            <Row
              key={model}
              model={model}
              price={prices.find((price) => price.model === model)}
              edit={() => setEdited(model)}
            />
          ))}
        </Table.Tbody>
      </Table>
      {edited !== null && (
        <PriceForm
          key={edited}
          model={edited}
          price={prices.find(({ model }) => model === edited)}
          close={() => setEdited(null)}
        />
      )}
    </Stack>
  );
}

function Row({ model, price, edit }: { model: string; price: ModelPrice | undefined; edit: () => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const known = price !== undefined && PRICES.some((name) => price[name] !== null);
  return (
    <Table.Tr>
      <Table.Th scope="row">
        {model}
        {price?.is_free && <Text size="xs">{t("prices.is_free")}</Text>}
      </Table.Th>
      <Table.Td ta="right">
        {known ? PRICES.map((name) => format.number(price[name])).join(" / ") : t("prices.unknown")}
      </Table.Td>
      <Table.Td>{price?.as_of ?? "–"}</Table.Td>
      <Table.Td>
        <Button
          size="compact-xs"
          variant="default"
          aria-label={`${t("keys.change")}: ${model}`}
          onClick={edit}
        >
          {t("keys.change")}
        </Button>
      </Table.Td>
    </Table.Tr>
  );
}

function PriceForm({ model, price, close }: {
  model: string;
  price: ModelPrice | undefined;
  close: () => void;
}) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const format = useFormat();
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(price);
  const [theirs, setTheirs] = useState<ModelPrice | null>(null);
  const [values, setValues] = useState(() => shown(price));
  const [isFree, setIsFree] = useState(price?.is_free ?? false);
  const fields = {
    is_free: isFree,
    ...Object.fromEntries(PRICES.map((name) => [name, values[name] === "" ? null : Number(values[name])])),
  } as Pick<ModelPrice, "is_free" | typeof PRICES[number]>;
  const save = useAction(() =>
    api.post("/prices/set", {
      model,
      ...fields,
      seen: Object.fromEntries(
        [...PRICES, ...(base ? ["is_free" as const] : [])].map((name) => [name, base?.[name] ?? null]),
      ),
    }), {
    touches: ["prices", "usage"],
    failed: t("keys.failed"),
    stale: async () => {
      const { prices } = await api.get("/prices");
      setTheirs(prices.find((one) => one.model === model) ?? null);
    },
  });
  const compared = (one: typeof fields) => [
    ...PRICES.map((name) => ({ label: t(`prices.${name}`), value: format.number(one[name]) })),
    { label: t("prices.is_free"), value: one.is_free ? "✓" : "" },
  ];
  return (
    <form
      aria-label={t("keys.change_one", { name: model })}
      onSubmit={(event) => {
        event.preventDefault();
        save.mutateAsync(undefined).then(close, () => {});
      }}
    >
      <Stack>
        <Text fw={600}>{model}</Text>
        {theirs && (
          <Conflict
            fields={sideBySide(compared(fields), compared(theirs))}
            mine={() => {
              setBase(theirs);
              setTheirs(null);
            }}
            theirs={() => {
              setBase(theirs);
              setTheirs(null);
              setValues(shown(theirs));
              setIsFree(theirs.is_free);
            }}
          />
        )}
        <Group grow>
          {PRICES.map((name) => (
            <NumberInput
              key={name}
              label={t(`prices.${name}`)}
              placeholder={t("prices.unknown")}
              min={0}
              max={1_000_000}
              value={values[name]}
              onChange={(value) => setValues((now) => ({ ...now, [name]: value }))}
            />
          ))}
        </Group>
        <Checkbox
          label={t("prices.is_free")}
          checked={isFree}
          onChange={(event) => setIsFree(event.currentTarget.checked)}
        />
        <Button type="submit" loading={save.isPending} w="max-content">{t("save")}</Button>
      </Stack>
    </form>
  );
}

const shown = (price: ModelPrice | undefined): Record<typeof PRICES[number], number | string> => ({
  input_usd: price?.input_usd ?? "",
  cached_usd: price?.cached_usd ?? "",
  output_usd: price?.output_usd ?? "",
});
