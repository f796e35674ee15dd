import { Anchor, Button, Group, Select, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { CircleCheck, CircleDashed } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { Overview } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { Snippet } from "../parts/snippet.tsx";
import { SNIPPETS } from "../parts/snippets.ts";
import { Loaded } from "../parts/states.tsx";
import { Waiting } from "../parts/waiting.tsx";
import { ConsumerForm, type Secret } from "./consumer_form.tsx";
import { KeyForm } from "./key_form.tsx";
import { ModelForm } from "./model_form.tsx";
import { SecretShown } from "./secret_shown.tsx";

const STEPS = ["key", "model", "consumer", "call"] as const;
type StepName = typeof STEPS[number];

/** Comes with the gateway, and with every key of Google's. */
const USUAL_MODEL = "gemma-4-31b-it";

/**
 * From nothing to a first call, in place: one step open at a time, first the first that is to do.
 * @param hold says whether a secret is shown that nobody could see again
 */
export default function FirstSteps({ hour, hold }: { hour: Overview; hold: (holding: boolean) => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.get("/keys", {}, signal) });
  const models = useQuery({
    queryKey: ["models", "all"],
    queryFn: ({ signal }) => api.get("/models/all", {}, signal),
  });
  const limits = useQuery({
    queryKey: ["models", "limits"],
    queryFn: ({ signal }) => api.get("/limits", {}, signal),
  });
  const [chosen, setChosen] = useState<string | null>(null);
  /** The limits are as they should be. */
  const [agreed, setAgreed] = useState(false);
  const [secret, setSecret] = useState<Secret | null>(null);
  const done: Record<StepName, boolean> = {
    key: hour.has_keys,
    model: agreed || hour.has_consumers,
    consumer: hour.has_consumers,
    call: hour.has_requests,
  };
  /** Null: the first that is to do. */
  const [opened, setOpened] = useState<StepName | null>(null);
  const open = opened ?? STEPS.find((name) => !done[name]) ?? "call";
  const step = (name: StepName, children: ReactNode) => (
    <Step
      words={t(`overview.step_${name}`)}
      done={done[name]}
      opened={open === name}
      open={() => setOpened(name)}
    >
      {children}
    </Step>
  );
  const names = models.data?.models.filter(({ is_active, replaced_by }) => is_active && !replaced_by)
    .map(({ model }) => model) ?? [];
  const model = chosen ?? (names.includes(USUAL_MODEL) ? USUAL_MODEL : names[0]);
  const agree = () => {
    setAgreed(true);
    setOpened("consumer");
  };
  return (
    <Stack component="ol" gap="xs" p={0} m={0} style={{ listStyle: "none" }}>
      {step(
        "key",
        <Loaded query={keys}>
          {({ encryption }) => (
            <KeyForm
              of={null}
              first
              encryption={encryption}
              close={() => setOpened("model")}
            />
          )}
        </Loaded>,
      )}
      {step(
        "model",
        <Loaded query={models}>
          {({ models }) => {
            const of = models.find((one) => one.model === model);
            return (
              <Stack>
                <Select
                  label={t("requests.model")}
                  data={names}
                  value={model ?? null}
                  allowDeselect={false}
                  searchable
                  onChange={setChosen}
                />
                {of && (limits.data
                  ? <ModelForm key={of.model} of={of} models={models} limits={limits.data} close={agree} />
                  : <Waiting />)}
                <Button variant="default" w="max-content" onClick={agree}>{t("overview.as_they_are")}</Button>
              </Stack>
            );
          }}
        </Loaded>,
      )}
      {step(
        "consumer",
        <ConsumerForm
          done={(made) => {
            setSecret(made ?? null);
            hold(made !== undefined);
            setOpened("call");
          }}
        />,
      )}
      {step(
        "call",
        <Stack>
          {secret
            ? (
              <SecretShown
                {...secret}
                {...(model !== undefined && { model })}
                opened
                done={() => {
                  setSecret(null);
                  hold(false);
                }}
              />
            )
            : <Snippet kinds={SNIPPETS} body={{ model: model ?? USUAL_MODEL, prompt: "Hello" }} />}
          <Group gap="xs" role="status">
            <Text size="sm">{t(hour.has_requests ? "overview.call_came" : "overview.call_awaited")}</Text>
            {hour.has_requests && (
              <Anchor component={Link} href="/requests" size="sm">{t("requests.title")}</Anchor>
            )}
          </Group>
        </Stack>,
      )}
    </Stack>
  );
}

function Step({ words, done, opened, open, children }: {
  words: string;
  done: boolean;
  opened: boolean;
  open: () => void;
  children: ReactNode;
}) {
  const { t } = useTranslation();
  const Icon = done ? CircleCheck : CircleDashed;
  return (
    <li>
      <Button
        variant="subtle"
        size="compact-sm"
        aria-expanded={opened}
        leftSection={<Icon size={18} aria-label={t(done ? "overview.done" : "overview.to_do")} role="img" />}
        onClick={open}
      >
        {words}
      </Button>
      {opened && <Stack maw={640} pt="xs" pb="md" pl="md">{children}</Stack>}
    </li>
  );
}
