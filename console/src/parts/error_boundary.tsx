import { Alert, Button, Stack, Text } from "@mantine/core";
import { CircleAlert } from "lucide-react";
import { Component, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";

/** Around the page that is shown: what fails in it, its download too, takes nothing else along. Another page is another try. */
export function PageBoundary({ children }: { children: ReactNode }) {
  const [location] = useLocation();
  return <Boundary key={location.split("/")[1]}>{children}</Boundary>;
}

/** Around all of them. */
export const PageFailure = ({ children }: { children: ReactNode }) => <Boundary>{children}</Boundary>;

/** Around a part that is loaded by itself, as a chart is: the page that it is on stays. `close`: it can be put away. */
export const PartBoundary = ({ close, children }: { close?: () => void; children: ReactNode }) => (
  <Boundary part {...(close && { close })}>{children}</Boundary>
);

interface Around {
  children: ReactNode;
  part?: boolean;
  close?: () => void;
}

class Boundary extends Component<Around, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    const { children, ...around } = this.props;
    return this.state.error === null ? children : <Failed error={this.state.error} {...around} />;
  }
}

function Failed({ error, part = false, close }: { error: Error } & Omit<Around, "children">) {
  const { t } = useTranslation();
  return (
    <Alert
      color="red"
      variant="outline"
      icon={<CircleAlert />}
      title={t(part ? "error.part" : "error.page")}
      role="alert"
      mb={part ? "md" : undefined}
      withCloseButton={close !== undefined}
      closeButtonLabel={t("close")}
      onClose={close}
    >
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{t(part ? "error.part_how" : "error.page_how")}</Text>
        <Text size="xs" c="dimmed">{error.message}</Text>
        <Button size="xs" variant="default" onClick={() => location.reload()}>{t("error.reload")}</Button>
      </Stack>
    </Alert>
  );
}
