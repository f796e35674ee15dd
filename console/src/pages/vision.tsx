import { Badge, Button, Card, Group, Image, Progress, Select, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { PICTURE_STATUSES, type PictureStatus, type SeenPicture, type VisionBudgets } from "../api/vision.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useFileAddresses } from "../parts/file_addresses.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, ErrorState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

/** Of those who have set up no tenants. */
const USUAL_TENANT = "default";

/** What a person can have looked at once more. */
const ENDED_BADLY: ReadonlySet<string> = new Set(["failed", "invalid"]);

export default function VisionPage() {
  const { t } = useTranslation();
  const { files, vision } = useConsole();
  const [status, setStatus] = useState<PictureStatus | null>(null);
  const [chosen, setChosen] = useState<string | null>(null);
  const stats = useQuery({
    queryKey: ["storage", "stats"],
    queryFn: ({ signal }) => files.stats(signal),
    staleTime: 60_000,
  });
  const tenants = stats.data?.tenants.map(({ tenant_id }) => tenant_id) ?? [];
  const tenant = chosen ?? (tenants.includes(USUAL_TENANT) ? USUAL_TENANT : tenants[0] ?? USUAL_TENANT);
  const pictures = useQuery({
    queryKey: ["vision", "pictures", tenant, status],
    queryFn: ({ signal }) => vision.pictures(tenant, status, signal),
    refetchInterval: EVERY_MS.requests,
    enabled: !stats.isPending,
  });
  const budgets = useQuery({
    queryKey: ["vision", "budgets", tenant],
    queryFn: ({ signal }) => vision.budgets(tenant, signal),
    refetchInterval: EVERY_MS.slow,
    enabled: !stats.isPending,
  });
  return (
    <Page title={t("vision.title")} about={t("vision.about")}>
      <Stack>
        <Group align="flex-end">
          <Select
            label={t("vision.tenant")}
            data={[...new Set([tenant, ...tenants])]}
            value={tenant}
            allowDeselect={false}
            onChange={setChosen}
          />
          <Select
            label={t("vision.status")}
            placeholder={t("vision.all")}
            data={PICTURE_STATUSES.map((value) => ({ value, label: t(`vision.statuses.${value}`) }))}
            value={status}
            clearable
            clearButtonProps={{ "aria-label": t("vision.all") }}
            onChange={(value) => setStatus(value as PictureStatus | null)}
          />
          {status !== null && ENDED_BADLY.has(status) && <Again which={{ tenant_id: tenant, status }} all />}
        </Group>
        {stats.isPending && stats.failureReason && (
          <ErrorState
            error={stats.failureReason}
            retry={() => stats.refetch()}
          />
        )}
        <Loaded query={budgets}>{(found) => <Budgets budgets={found.budgets} />}</Loaded>
        <Loaded query={pictures}>
          {({ pictures }) =>
            pictures.length === 0
              ? <EmptyState title={t("vision.none")}>{t("vision.none_about")}</EmptyState>
              : (
                <Stack component="ul" p={0} m={0} style={{ listStyle: "none" }}>
                  {pictures.map((picture) => (
                    <li key={picture.id}>
                      <Picture picture={picture} />
                    </li>
                  ))}
                </Stack>
              )}
        </Loaded>
      </Stack>
    </Page>
  );
}

function Budgets({ budgets }: VisionBudgets) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Card withBorder component="section" aria-label={t("vision.budgets")}>
      <Stack gap="sm">
        <Title order={2} size="h4">{t("vision.budgets")}</Title>
        {budgets.length === 0 && <Text size="sm">{t("vision.budgets_none")}</Text>}
        {budgets.map(({ provider, period, unit, most, used, reserved }) => {
          const name = provider === "*" ? t("vision.together") : provider;
          const words = t("vision.budget_line", {
            name,
            used: format.number(used + reserved),
            most: format.number(most),
            unit: t(`vision.unit.${unit as "tokens" | "pictures"}`),
            period: t(`vision.period.${period as "day" | "month"}`),
          });
          const share = most > 0 ? Math.min(100, 100 * (used + reserved) / most) : 100;
          return (
            <div key={`${provider} ${period} ${unit}`}>
              <Text size="sm">{words}</Text>
              <Progress value={share} color={share >= 80 ? "orange" : "blue"} aria-label={words} size="sm" />
            </div>
          );
        })}
      </Stack>
    </Card>
  );
}

function Picture({ picture }: { picture: SeenPicture }) {
  const { t } = useTranslation();
  const format = useFormat();
  const {
    status,
    reason,
    vision_description,
    ocr_text,
    labels,
    analyst,
    tokens,
    same_as,
    from_cache,
    decision,
  } = picture;
  const title = vision_description ?? ocr_text ?? (picture.file_sha256 ?? picture.id).slice(0, 16);
  const cost = same_as !== null
    ? t("vision.same_as", { sha256: same_as.slice(0, 12) })
    : from_cache
    ? t("vision.from_cache")
    : t("vision.tokens", { tokens: format.number(tokens) });
  return (
    <Card withBorder component="article" aria-label={title.slice(0, 100)}>
      <Group align="flex-start" wrap="nowrap">
        <Thumbnail picture={picture} name={title} />
        <Stack gap={4} miw={0} style={{ overflowWrap: "anywhere" }}>
          <Group gap="xs">
            <StateBadge state={status} label={t(`vision.statuses.${status}`)} />
            {labels.slice(0, 8).map((label) => (
              <Badge key={label} variant="default" tt="none" fw={400}>{label}</Badge>
            ))}
          </Group>
          <Text size="sm" lineClamp={4}>{title}</Text>
          {reason && <Text size="sm">{reason}</Text>}
          {decision && (
            <Text size="xs" c="dimmed">
              {t("vision.decision", { words: String(decision.detail.message ?? decision.reason) })}
            </Text>
          )}
          <Text size="xs" c="dimmed">
            {[analyst, status === "done" ? cost : null].filter(Boolean).join(" · ")}
          </Text>
          {ENDED_BADLY.has(status) && (
            <Again
              which={{
                tenant_id: picture.tenant_id,
                post_id: picture.post_id,
                ...(picture.file_sha256 !== null && { sha256: picture.file_sha256 }),
              }}
            />
          )}
        </Stack>
      </Group>
    </Card>
  );
}

function Thumbnail({ picture: { file_sha256, tenant_id }, name }: { picture: SeenPicture; name: string }) {
  const source = useFileAddresses(file_sha256 === null ? [] : [file_sha256], tenant_id)[file_sha256 ?? ""];
  return source === undefined ? <div style={{ width: 96, height: 72, flex: "none" }} aria-hidden /> : (
    <Image
      src={source}
      alt={name.slice(0, 100)}
      w={96}
      h={72}
      fit="contain"
      radius="sm"
      style={{ flex: "none" }}
    />
  );
}

function Again(
  { which, all = false }: {
    which: Parameters<ReturnType<typeof useConsole>["vision"]["requeue"]>[0];
    all?: boolean;
  },
) {
  const { t } = useTranslation();
  const { vision } = useConsole();
  const again = useAction(() => vision.requeue(which), {
    touches: ["vision"],
    done: t("vision.queued"),
    failed: t("vision.not_queued"),
  });
  return (
    <Button
      size="xs"
      variant="default"
      w="fit-content"
      loading={again.isPending}
      onClick={() => again.mutate(undefined)}
    >
      {t(all ? "vision.again_all" : "vision.again")}
    </Button>
  );
}
