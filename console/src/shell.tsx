import {
  ActionIcon,
  Alert,
  AppShell,
  Badge,
  Burger,
  Group,
  Menu,
  NavLink,
  SegmentedControl,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure, useHotkeys, useNetwork, useReducedMotion } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import {
  Bell,
  ChartColumn,
  Eye,
  FlaskConical,
  Gauge,
  HardDrive,
  House,
  Key,
  KeyRound,
  List,
  ListTodo,
  LogOut,
  MessagesSquare,
  Moon,
  Search,
  Sun,
  Users,
  Waypoints,
} from "lucide-react";
import { lazy, type ReactNode, Suspense, useRef } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import type { Me } from "./api/shapes.ts";
import { signOut } from "./session.ts";
import { useConsole } from "./console_context.tsx";
import { chooseLanguage, type Language, LANGUAGES } from "./i18n/language.ts";
import { PartBoundary } from "./parts/error_boundary.tsx";
import { EVERY_MS } from "./queries.ts";

const Find = lazy(() => import("./parts/find.tsx"));

const PAGES = [
  { path: "/overview", name: "overview", icon: House },
  { path: "/providers", name: "providers", icon: KeyRound },
  { path: "/keys", name: "keys", icon: Key },
  { path: "/quota", name: "quota", icon: Gauge },
  { path: "/requests", name: "requests", icon: List },
  { path: "/consumers", name: "consumers", icon: Users },
  { path: "/chats", name: "chats", icon: MessagesSquare },
  { path: "/jobs", name: "jobs", icon: ListTodo },
  { path: "/vision", name: "vision", icon: Eye },
  { path: "/graph", name: "graph", icon: Waypoints },
  { path: "/usage", name: "usage", icon: ChartColumn },
  { path: "/storage", name: "storage", icon: HardDrive },
  { path: "/alerts", name: "alerts", icon: Bell },
  { path: "/playground", name: "playground", icon: FlaskConical },
] as const;

/** The menu of a phone comes and goes. */
const SLIDE_MS = 200;

const ICON = { size: 18, "aria-hidden": true } as const;

export function Shell({ me, children }: { me: Me; children: ReactNode }) {
  const { t } = useTranslation();
  const [opened, { toggle, close }] = useDisclosure();
  const [finding, { open: find, close: endFinding }] = useDisclosure();
  // In fields too: that is where a person is with an id in hand.
  useHotkeys([["mod+K", find]], [], true);
  // The frame of the page moves where its library's other parts would stand still.
  const isCalm = useReducedMotion(undefined, { getInitialValueInEffect: false });
  const [location] = useLocation();
  const main = useRef<HTMLElement>(null);
  const page = location.split("/")[1];
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="md"
      transitionDuration={isCalm ? 0 : SLIDE_MS}
    >
      <a
        className="skip-link"
        href="#content"
        onClick={(event) => {
          // The address after the hash is the page's.
          event.preventDefault();
          main.current?.focus();
        }}
      >
        {t("skip")}
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t("menu")} />
            <Text fw={700} component="span">EVE Gateway</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <ActionIcon variant="default" size="lg" aria-label={t("find.open")} onClick={find}>
              <Search {...ICON} />
            </ActionIcon>
            <LanguageChoice />
            <ColorSchemeSwitch />
            <Account email={me.email} />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label={t("navigation")}>
        {PAGES.map(({ path, name, icon: Icon }) => (
          <NavLink
            key={path}
            component={Link}
            href={path}
            label={t(`${name}.title`)}
            leftSection={<Icon {...ICON} />}
            rightSection={name === "alerts" && <OpenAlerts />}
            onClick={close}
            active={page === name}
            variant="filled"
            aria-current={page === name ? "page" : undefined}
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main ref={main} id="content" tabIndex={-1} style={{ outline: "none" }}>
        <Offline />
        {finding && (
          <PartBoundary close={endFinding}>
            <Suspense>
              <Find close={endFinding} />
            </Suspense>
          </PartBoundary>
        )}
        {children}
      </AppShell.Main>
    </AppShell>
  );
}

function Offline() {
  const { t } = useTranslation();
  const { online } = useNetwork();
  if (online) return null;
  return (
    <Alert color="yellow" variant="outline" mb="md" role="status" title={t("offline")}>
      {t("offline_how")}
    </Alert>
  );
}

function OpenAlerts() {
  const { api } = useConsole();
  const { t } = useTranslation();
  const { data } = useQuery({
    queryKey: ["alerts", "open"],
    queryFn: ({ signal }) => api.get("/alerts", { state: "open" }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const count = data?.alerts.filter(({ acknowledged_at }) => !acknowledged_at).length ?? 0;
  if (count === 0) return null;
  return <Badge color="red" size="sm" circle aria-label={t("alerts.open_count", { count })}>{count}</Badge>;
}

function LanguageChoice() {
  const { t, i18n } = useTranslation();
  return (
    <SegmentedControl
      size="xs"
      aria-label={t("language")}
      value={i18n.language}
      onChange={(value) => chooseLanguage(value as Language)}
      data={Object.keys(LANGUAGES).map((value) => ({ value, label: value.toUpperCase() }))}
    />
  );
}

function ColorSchemeSwitch() {
  const { t } = useTranslation();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  const dark = scheme === "dark";
  return (
    <ActionIcon
      variant="default"
      size="lg"
      aria-label={dark ? t("light") : t("dark")}
      onClick={() => setColorScheme(dark ? "light" : "dark")}
    >
      {dark ? <Sun {...ICON} /> : <Moon {...ICON} />}
    </ActionIcon>
  );
}

function Account({ email }: { email: string | null }) {
  const { t } = useTranslation();
  const { auth } = useConsole();
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="default" size="lg" aria-label={t("account")}>
          <LogOut {...ICON} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{email}</Menu.Label>
        <Menu.Item onClick={() => signOut(auth)}>{t("sign_out")}</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
