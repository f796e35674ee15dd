import { Text } from "@mantine/core";
import { useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { Window } from "../parts/window.tsx";
import { sessionOver } from "../session.ts";
import { SignInForm } from "./sign_in.tsx";

/** Other dialogs are at 200, messages at 400. */
const ABOVE_ALL = 300;

/** Over the page, which stays as it is, with all that was typed. */
export function SignInAgain() {
  const { t } = useTranslation();
  const opened = useSyncExternalStore(sessionOver.subscribe, sessionOver.read);
  return (
    <Window opened={opened} onClose={() => {}} title={t("sign_in.again")} locked zIndex={ABOVE_ALL}>
      <SignInForm>
        <Text size="sm">{t("sign_in.again_about")}</Text>
      </SignInForm>
    </Window>
  );
}
