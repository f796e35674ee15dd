import { Button, Center, Stack, Text, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { signOut } from "../session.ts";
import { useConsole } from "../console_context.tsx";

/** Signed in, and nothing to see: the database shows an ordinary user nothing, whatever the page asks for. */
export function NotAdministrator() {
  const { t } = useTranslation();
  const { auth } = useConsole();
  return (
    <Center component="main" mih="100vh" p="md">
      <Stack align="center" maw={460} ta="center">
        <Title order={1} size="h3">{t("refused.title")}</Title>
        <Text>{t("refused.about")}</Text>
        <Button variant="default" onClick={() => signOut(auth)}>
          {t("sign_out")}
        </Button>
      </Stack>
    </Center>
  );
}
