import {
  Alert,
  Badge,
  Button,
  Card,
  Drawer,
  Group,
  Image,
  Stack,
  Table,
  Text,
  TextInput,
} from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery } from "@tanstack/react-query";
import { EyeOff } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import type { AdminChat, AdminChatImage, AdminMessage, ChatPlace } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useFileAddresses } from "../parts/file_addresses.ts";
import { Page } from "../parts/page.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { VirtualBody } from "../parts/virtual_body.tsx";
import { EVERY_MS } from "../queries.ts";

const PAGE = 50;
/** While a person types. */
const PAUSE_MS = 300;
const NO_FILTER = { text: "", user_id: "", consumer: "" };

const after = (place: ChatPlace | null) =>
  place === null ? {} : { after_created_at: place.created_at, after_id: place.id };

export default function ChatsPage({ chatId }: { chatId: string | undefined }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [, navigate] = useLocation();
  const [filter, setFilter] = useState(NO_FILTER);
  const [asked] = useDebouncedValue(filter, PAUSE_MS);
  const chats = useInfiniteQuery({
    queryKey: ["chats", asked],
    queryFn: ({ signal, pageParam }) =>
      api.get("/chats", { ...asked, ...after(pageParam), limit: PAGE }, signal),
    initialPageParam: null as ChatPlace | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: (query) => (query.state.data?.pages.length ?? 0) > 1 ? false : EVERY_MS.slow,
  });
  const rows = chats.data?.pages.flatMap((page) => page.chats) ?? [];
  const showsText = chats.data?.pages[0]?.shows_text ?? false;
  const field = (name: keyof typeof NO_FILTER) => ({
    label: t(`chats.${name}`),
    value: filter[name],
    onChange: (event: { currentTarget: { value: string } }) => {
      const { value } = event.currentTarget;
      setFilter((now) => ({ ...now, [name]: value }));
    },
  });
  return (
    <Page title={t("chats.title")} about={t("chats.about")}>
      {chats.data && !showsText && <NoText />}
      <Group component="search" align="flex-end">
        {showsText && <TextInput {...field("text")} />}
        <TextInput {...field("user_id")} />
        <TextInput {...field("consumer")} />
      </Group>
      <Loaded query={chats}>
        {() =>
          rows.length === 0
            ? <EmptyState title={t("chats.empty")}>{t("chats.empty_how")}</EmptyState>
            : <Chats rows={rows} showsText={showsText} />}
      </Loaded>
      {chats.hasNextPage && (
        <Group justify="center">
          <Button variant="default" loading={chats.isFetchingNextPage} onClick={() => chats.fetchNextPage()}>
            {t("more")}
          </Button>
        </Group>
      )}
      <Drawer
        opened={chatId !== undefined}
        onClose={() => navigate("/chats")}
        position="right"
        size="xl"
        title={t("chats.one")}
        closeButtonProps={{ "aria-label": t("close") }}
      >
        {chatId !== undefined && <OneChat chatId={chatId} />}
      </Drawer>
    </Page>
  );
}

/** The owner's setting, which no page can get around. */
function NoText() {
  const { t } = useTranslation();
  return (
    <Alert variant="outline" color="gray" icon={<EyeOff aria-hidden />} title={t("chats.no_text")}>
      {t("chats.no_text_how")}
    </Alert>
  );
}

function Chats({ rows, showsText }: { rows: AdminChat[]; showsText: boolean }) {
  const { t } = useTranslation();
  const format = useFormat();
  const [, navigate] = useLocation();
  return (
    <ListFrame minWidth={720}>
      <Table highlightOnHover aria-label={t("chats.title")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("chats.updated")}</Table.Th>
            <Table.Th>{showsText ? t("chats.name") : t("chats.id")}</Table.Th>
            <Table.Th>{t("chats.whose")}</Table.Th>
            <Table.Th>{t("chats.consumer")}</Table.Th>
            <Table.Th ta="right">{t("chats.messages")}</Table.Th>
            <Table.Th ta="right">{t("chats.size")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <VirtualBody>
          {rows.map((chat) => (
            <Table.Tr key={chat.id}>
              <Table.Td>{format.time(chat.updated_at)}</Table.Td>
              <Table.Td>
                <Group gap={4}>
                  <Button
                    variant="subtle"
                    size="compact-xs"
                    onClick={() => navigate(`/chats/${chat.id}`)}
                    aria-label={t("chats.open", { name: chat.title ?? chat.id })}
                  >
                    {chat.title ?? chat.id}
                  </Button>
                  {chat.archived_at !== null && (
                    <Badge size="sm" variant="outline">{t("chats.archived")}</Badge>
                  )}
                  {chat.deleted_at !== null && <Badge size="sm" variant="outline">{t("chats.deleted")}
                  </Badge>}
                </Group>
              </Table.Td>
              <Table.Td>{chat.user_id ?? chat.owner ?? "–"}</Table.Td>
              <Table.Td>{chat.consumer ?? (chat.owner === null ? t("requests.project_key") : "–")}</Table.Td>
              <Table.Td ta="right">{format.number(chat.messages)}</Table.Td>
              <Table.Td ta="right">{format.bytes(chat.stored_bytes)}</Table.Td>
            </Table.Tr>
          ))}
        </VirtualBody>
      </Table>
    </ListFrame>
  );
}

function OneChat({ chatId }: { chatId: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const pages = useInfiniteQuery({
    queryKey: ["chats", "one", chatId],
    queryFn: ({ signal, pageParam }) =>
      api.get("/chats/one", { chat_id: chatId, ...after(pageParam), limit: PAGE }, signal),
    initialPageParam: null as ChatPlace | null,
    getNextPageParam: (page) => page.next,
  });
  const first = pages.data?.pages[0];
  return (
    <Stack>
      <Loaded query={pages}>
        {() =>
          first && (
            <>
              <div>
                <Text fw={600} style={{ overflowWrap: "anywhere" }}>{first.chat.title ?? first.chat.id}</Text>
                {first.chat.description !== null && <Text size="sm">{first.chat.description}</Text>}
                <Text size="sm" c="dimmed" className="figures">
                  {t("chats.cost", {
                    calls: format.number(first.cost.calls),
                    input: format.number(first.cost.input_tokens),
                    output: format.number(first.cost.output_tokens),
                  })}
                </Text>
              </div>
              {!first.shows_text && <NoText />}
              <Stack
                component="ol"
                gap="xs"
                p={0}
                m={0}
                style={{ listStyle: "none" }}
                aria-label={t("chats.messages")}
              >
                {pages.data?.pages.flatMap((page) => page.messages).map((message) => (
                  <Message key={message.id} message={message} />
                ))}
              </Stack>
              {pages.hasNextPage && (
                <Button
                  variant="default"
                  loading={pages.isFetchingNextPage}
                  onClick={() => pages.fetchNextPage()}
                >
                  {t("chats.further")}
                </Button>
              )}
            </>
          )}
      </Loaded>
    </Stack>
  );
}

const ROLES = ["user", "assistant", "system", "tool"];

function Message({ message }: { message: AdminMessage }) {
  const { t } = useTranslation();
  const format = useFormat();
  const role = ROLES.includes(message.role)
    ? t(`chats.role.${message.role as "user" | "assistant" | "system" | "tool"}`)
    : message.role;
  return (
    <Card withBorder component="li" padding="sm">
      <Stack gap={4}>
        <Group justify="space-between">
          <Group gap="xs">
            <Text size="sm" fw={600}>{role}</Text>
            {message.state === "pending" && <Badge size="sm" variant="outline">{t("chats.pending")}</Badge>}
            {message.state === "broken_off" && (
              <Badge size="sm" variant="outline">{t("chats.broken_off")}</Badge>
            )}
          </Group>
          <Text size="xs" c="dimmed">{format.time(message.created_at)}</Text>
        </Group>
        {message.content !== null && (
          <Text size="sm" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
            {message.content}
          </Text>
        )}
        {message.images.map((image) => <Picture key={image.id} image={image} />)}
        <Group gap="xs">
          <Text size="xs" c="dimmed" className="figures">
            {message.total_tokens === null ? format.bytes(message.bytes) : t("chats.tokens", {
              size: format.bytes(message.bytes),
              input: format.number(message.input_tokens ?? 0),
              output: format.number(message.output_tokens ?? 0),
            })}
          </Text>
          {message.request_no !== null && (
            <Button
              component={Link}
              href={`/requests/${message.request_no}`}
              variant="subtle"
              size="compact-xs"
            >
              {t("chats.call", { no: message.request_no })}
            </Button>
          )}
          {message.feedback !== null && (
            <Text size="xs">{t("chats.feedback", { text: message.feedback })}</Text>
          )}
        </Group>
      </Stack>
    </Card>
  );
}

function Picture({ image }: { image: AdminChatImage }) {
  const { t } = useTranslation();
  const { file_sha256, tenant_id } = image;
  const isHere = file_sha256 !== null && tenant_id !== null;
  const url = useFileAddresses(isHere ? [file_sha256] : [], tenant_id ?? "")[file_sha256 ?? ""];
  const name = image.description ?? image.image_name ?? t("chats.picture");
  return url === undefined
    ? (
      <Text size="xs" c="dimmed">
        {[t("chats.picture"), image.image_name, image.width && `${image.width} × ${image.height}`].filter(
          Boolean,
        )
          .join(" · ")}
      </Text>
    )
    : <Image src={url} alt={name} mah={240} w="auto" fit="contain" radius="sm" />;
}
