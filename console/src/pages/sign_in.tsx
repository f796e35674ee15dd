import {
  Alert,
  Button,
  Center,
  Group,
  Paper,
  PasswordInput,
  Stack,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { type FormEvent, type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { useConsole } from "../console_context.tsx";

export function SignInPage() {
  const { t } = useTranslation();
  return (
    <Center component="main" mih="100vh" p="md">
      <Paper withBorder p="xl" w="100%" maw={400}>
        <SignInForm>
          <div>
            <Title order={1} size="h3">EVE Gateway</Title>
            <Text c="dimmed" size="sm">{t("sign_in.about")}</Text>
          </div>
        </SignInForm>
      </Paper>
    </Center>
  );
}

export function SignInForm({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const { auth } = useConsole();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  async function signIn(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const { error } = await auth.signInWithPassword({ email: email.trim(), password });
    setBusy(false);
    if (!error) return;
    if (error.status === 400 || error.status === 401) setProblem(t("sign_in.refused"));
    else setProblem(error.status ? error.message : t("error.unreachable"));
  }

  return (
    <form onSubmit={signIn}>
      <Stack>
        {children}
        <TextInput
          label={t("sign_in.email")}
          type="email"
          autoComplete="username"
          required
          value={email}
          onChange={(event) => setEmail(event.currentTarget.value)}
        />
        <PasswordInput
          visibilityToggleButtonProps={{ "aria-label": t("show") }}
          label={t("sign_in.password")}
          autoComplete="current-password"
          required
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        {problem && <Alert color="red" variant="outline" role="alert">{problem}</Alert>}
        <Group justify="flex-end">
          <Button type="submit" loading={busy}>{t("sign_in.submit")}</Button>
        </Group>
      </Stack>
    </form>
  );
}
