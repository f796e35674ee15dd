import { Modal } from "@mantine/core";
import { type ReactNode, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { sessionOver } from "../session.ts";

/** A dialog over the page. `locked`: what is in it must be answered; neither Esc nor a click beside it closes it. */
export function Window({ locked = false, ...props }: {
  opened: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  locked?: boolean;
  size?: string;
  zIndex?: number;
}) {
  const { t } = useTranslation();
  // Esc in the dialog that asks to sign in again is not meant for the one below it.
  const isBelow = useSyncExternalStore(sessionOver.subscribe, sessionOver.read);
  return (
    <Modal
      {...props}
      closeOnEscape={!locked && !isBelow}
      closeOnClickOutside={!locked}
      withCloseButton={!locked}
      closeButtonProps={{ "aria-label": t("close") }}
    />
  );
}
