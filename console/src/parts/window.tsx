import { Modal } from "@mantine/core";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

/** A dialog over the page. */
export function Window(props: { opened: boolean; onClose: () => void; title: string; children: ReactNode }) {
  const { t } = useTranslation();
  return <Modal {...props} closeButtonProps={{ "aria-label": t("close") }} />;
}
