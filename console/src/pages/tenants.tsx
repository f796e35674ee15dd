import {
  Badge,
  Button,
  Card,
  Checkbox,
  Code,
  Group,
  NumberInput,
  Stack,
  Table,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Tenant } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict, sideBySide } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";

const GB = 1e9;

type Dialog = { kind: "add" } | { kind: "change" | "members"; tenant: Tenant };

/** Tenants, their storage limits and their members: a part of the consumers' page. */
export function Tenants() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const close = () => setDialog(null);
  const tenants = useQuery({
    queryKey: ["tenants"],
    queryFn: ({ signal }) => api.get("/tenants", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  return (
    <Card withBorder component="section" aria-label={t("tenants.title")}>
      <Stack gap="sm">
        <Group justify="space-between" align="flex-end">
          <div>
            <Title order={2} size="h4">{t("tenants.title")}</Title>
            <Text size="sm" c="dimmed">{t("tenants.about")}</Text>
          </div>
          <Button
            variant="default"
            leftSection={<Plus size={16} aria-hidden />}
            onClick={() => setDialog({ kind: "add" })}
          >
            {t("tenants.add")}
          </Button>
        </Group>
        <Loaded query={tenants}>
          {({ tenants }) => (
            <ListFrame minWidth={500}>
              <Table aria-label={t("tenants.title")}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>{t("consumers.tenant")}</Table.Th>
                    <Table.Th ta="right">{t("tenants.storage_limit")}</Table.Th>
                    <Table.Th ta="right">{t("tenants.consumers")}</Table.Th>
                    <Table.Th ta="right">{t("tenants.members")}</Table.Th>
                    <Table.Th>{t("tenants.actions")}</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {tenants.map((tenant) => (
                    <Table.Tr key={tenant.id}>
                      <Table.Th scope="row">
                        <Group gap="xs">
                          {tenant.id}
                          {tenant.is_default && (
                            <Badge size="sm" variant="outline">{t("tenants.default")}</Badge>
                          )}
                        </Group>
                        {tenant.name !== null && <Text size="xs" c="dimmed">{tenant.name}</Text>}
                      </Table.Th>
                      <Table.Td ta="right">
                        {tenant.storage_limit_bytes === null
                          ? t("tenants.as_all")
                          : format.bytes(tenant.storage_limit_bytes)}
                      </Table.Td>
                      <Table.Td ta="right">{format.number(tenant.consumers)}</Table.Td>
                      <Table.Td ta="right">{format.number(tenant.members)}</Table.Td>
                      <Table.Td>
                        <Group gap={4}>
                          {(["change", "members"] as const).map((kind) => (
                            <Button
                              key={kind}
                              variant="default"
                              size="compact-xs"
                              aria-label={`${t(`tenants.${kind}`)}: ${tenant.id}`}
                              onClick={() => setDialog({ kind, tenant })}
                            >
                              {t(`tenants.${kind}`)}
                            </Button>
                          ))}
                        </Group>
                      </Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </ListFrame>
          )}
        </Loaded>
      </Stack>
      <Window opened={dialog?.kind === "add"} onClose={close} title={t("tenants.add")}>
        <TenantForm done={close} />
      </Window>
      <Window
        opened={dialog?.kind === "change"}
        onClose={close}
        title={dialog?.kind === "change" ? `${t("tenants.change")}: ${dialog.tenant.id}` : ""}
      >
        {dialog?.kind === "change" && <TenantForm tenant={dialog.tenant} done={close} />}
      </Window>
      <Window
        opened={dialog?.kind === "members"}
        onClose={close}
        title={dialog?.kind === "members" ? t("tenants.members_of", { tenant: dialog.tenant.id }) : ""}
      >
        {dialog?.kind === "members" && <Members tenant={dialog.tenant.id} />}
      </Window>
    </Card>
  );
}

function TenantForm({ tenant, done }: { tenant?: Tenant; done: () => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(tenant);
  const [theirs, setTheirs] = useState<Tenant | null>(null);
  const [id, setId] = useState("");
  const [name, setName] = useState(tenant?.name ?? "");
  const [limit, setLimit] = useState<number | null>(tenant?.storage_limit_bytes ?? null);
  const [isDefault, setIsDefault] = useState(tenant?.is_default ?? false);
  const fields = {
    name: name.trim() === "" ? null : name.trim(),
    storage_limit_bytes: limit,
    ...(isDefault && { is_default: true }),
  };
  const save = useAction(
    () =>
      base === undefined
        ? api.post("/tenants/add", { id: id.trim(), ...fields })
        : api.post("/tenants/change", {
          id: base.id,
          seen: {
            name: base.name,
            storage_limit_bytes: base.storage_limit_bytes,
            is_default: base.is_default,
          },
          ...fields,
        }),
    {
      touches: ["tenants", "consumers", "storage"],
      failed: t("tenants.failed"),
      stale: async () => {
        const { tenants } = await api.get("/tenants", { id: base?.id });
        setTheirs(tenants[0] ?? null);
      },
    },
  );
  const compared = (
    one: { name: string | null; storage_limit_bytes: number | null; is_default?: boolean },
  ) => [
    { label: t("tenants.name"), value: one.name ?? "" },
    {
      label: t("tenants.storage_limit_gb"),
      value: one.storage_limit_bytes === null ? t("tenants.as_all") : String(one.storage_limit_bytes / GB),
    },
    { label: t("tenants.is_default"), value: one.is_default ? "✓" : "" },
  ];
  function submit(event: FormEvent) {
    event.preventDefault();
    save.mutate(undefined, { onSuccess: done });
  }
  return (
    <form onSubmit={submit}>
      <Stack>
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
              setName(theirs.name ?? "");
              setLimit(theirs.storage_limit_bytes);
              setIsDefault(theirs.is_default);
            }}
          />
        )}
        {!tenant && (
          <TextInput
            label={t("tenants.id")}
            description={t("tenants.id_about")}
            required
            data-autofocus
            maxLength={100}
            value={id}
            onChange={(event) => setId(event.currentTarget.value)}
          />
        )}
        <TextInput
          label={t("tenants.name")}
          maxLength={200}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <NumberInput
          label={t("tenants.storage_limit_gb")}
          placeholder={t("tenants.as_all")}
          min={0}
          decimalScale={3}
          hideControls
          value={limit === null ? "" : limit / GB}
          onChange={(value) => setLimit(value === "" ? null : Math.round(Number(value) * GB))}
        />
        <Checkbox
          label={t("tenants.is_default")}
          description={t("tenants.is_default_about")}
          checked={isDefault}
          disabled={tenant?.is_default}
          onChange={(event) => setIsDefault(event.currentTarget.checked)}
        />
        <Group justify="flex-end">
          <Button type="submit" loading={save.isPending}>{tenant ? t("save") : t("tenants.add")}</Button>
        </Group>
      </Stack>
    </form>
  );
}

function Members({ tenant }: { tenant: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [userId, setUserId] = useState("");
  const members = useQuery({
    queryKey: ["tenants", tenant, "members"],
    queryFn: ({ signal }) => api.get("/tenants/members", { tenant_id: tenant }, signal),
  });
  const set = useAction(
    (member: { user_id: string; is_member: boolean }) =>
      api.post("/tenants/members/set", { tenant_id: tenant, ...member }),
    { touches: ["tenants"], failed: t("tenants.failed") },
  );
  return (
    <Stack>
      <Text size="sm">{t("tenants.members_about")}</Text>
      <Loaded query={members}>
        {({ members }) =>
          members.length === 0 ? <EmptyState title={t("tenants.no_members")} /> : (
            <>
              {members.map(({ user_id, added_at }) => (
                <Group key={user_id} justify="space-between" wrap="nowrap">
                  <div>
                    <Code style={{ overflowWrap: "anywhere" }}>{user_id}</Code>
                    <Text size="xs" c="dimmed">{t("tenants.since", { at: format.time(added_at) })}</Text>
                  </div>
                  <Button
                    size="compact-xs"
                    color="red"
                    variant="outline"
                    aria-label={`${t("tenants.remove_member")}: ${user_id}`}
                    onClick={() =>
                      set.mutate({ user_id, is_member: false })}
                  >
                    {t("tenants.remove_member")}
                  </Button>
                </Group>
              ))}
            </>
          )}
      </Loaded>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          set.mutate({ user_id: userId.trim(), is_member: true }, { onSuccess: () => setUserId("") });
        }}
      >
        <Stack gap="xs">
          <TextInput
            label={t("tenants.user_id")}
            description={t("tenants.user_id_about")}
            required
            maxLength={100}
            value={userId}
            onChange={(event) => setUserId(event.currentTarget.value)}
          />
          <Group justify="flex-end">
            <Button type="submit" loading={set.isPending}>{t("tenants.add_member")}</Button>
          </Group>
        </Stack>
      </form>
    </Stack>
  );
}
