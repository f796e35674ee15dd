import { Anchor, Stack, Text, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { Found } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { requestAddress } from "./request_address.ts";
import { Loaded } from "./states.tsx";
import { Window } from "./window.tsx";

/** While a person types. */
const PAUSE_MS = 300;

/** Where each kind is looked at. */
const WHERE: Record<Found["kind"], (one: Found) => string> = {
  request: ({ id }) => requestAddress({ request_no: id }),
  refusal: ({ id, consumer }) => requestAddress({ request_id: id, consumer }),
  job: ({ id }) => `/jobs/job/${id}`,
  chat: ({ id }) => `/chats/${id}`,
  post: ({ id, tenant_id }) =>
    `/graph/${encodeURIComponent(`Post/${id}`)}?${new URLSearchParams({ tenant: tenant_id ?? "" })}`,
};

/** One search over ids: of requests, jobs, chats and posts. */
export default function Find({ close }: { close: () => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [id, setId] = useState("");
  const [asked] = useDebouncedValue(id.trim(), PAUSE_MS);
  const found = useQuery({
    queryKey: ["find", asked],
    queryFn: ({ signal }) => api.get("/find", { id: asked }, signal),
    enabled: asked !== "",
  });
  return (
    <Window opened onClose={close} title={t("find.title")}>
      <Stack>
        <TextInput
          label={t("find.id")}
          description={t("find.about")}
          data-autofocus
          maxLength={200}
          value={id}
          onChange={(event) => setId(event.currentTarget.value)}
        />
        {asked !== "" && (
          <Loaded query={found}>
            {({ found }) => (
              <Stack gap="xs" role="status">
                {found.length === 0 && <Text size="sm">{t("nothing_found")}</Text>}
                {found.map((one) => (
                  <Anchor
                    key={`${one.kind} ${one.id} ${one.consumer}`}
                    component={Link}
                    href={WHERE[one.kind](one)}
                    onClick={close}
                  >
                    {[t(`find.${one.kind}`), one.name ?? one.id, one.consumer, one.at && format.time(one.at)]
                      .filter(
                        Boolean,
                      )
                      .join(" · ")}
                  </Anchor>
                ))}
              </Stack>
            )}
          </Loaded>
        )}
      </Stack>
    </Window>
  );
}
