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

class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    return this.state.error === null ? this.props.children : <PageFailed error={this.state.error} />;
  }
}

function PageFailed({ error }: { error: Error }) {
  const { t } = useTranslation();
  return (
    <Alert color="red" variant="outline" icon={<CircleAlert />} title={t("error.page")} role="alert">
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{t("error.page_how")}</Text>
        <Text size="xs" c="dimmed">{error.message}</Text>
        <Button size="xs" variant="default" onClick={() => location.reload()}>{t("error.reload")}</Button>
      </Stack>
    </Alert>
  );
}
