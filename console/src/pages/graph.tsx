import {
  Anchor,
  Badge,
  Button,
  Card,
  Center,
  Group,
  Image,
  Loader,
  SegmentedControl,
  Select,
  SimpleGrid,
  Stack,
  Text,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import { type GraphEdge, type GraphNode, type Neighbours, NODE_KINDS, type NodeKind } from "../api/graph.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useFileAddresses } from "../parts/file_addresses.ts";
import { PartBoundary } from "../parts/error_boundary.tsx";
import { Page } from "../parts/page.tsx";
import { EmptyState, ErrorState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

const GraphDrawing = lazy(() => import("../parts/graph_drawing.tsx"));

/** Of those who have set up no tenants. */
const USUAL_TENANT = "default";
/** Each is a file to load. */
const SHOWN_PICTURES = 12;

const addressOf = (id: string) => `/graph/${encodeURIComponent(id)}`;

/** Of the page's address. What somebody has typed wrongly is no node. */
function idOf(address: string | undefined): string | undefined {
  try {
    return address ? decodeURIComponent(address) : undefined;
  } catch {
    return address;
  }
}

/** @param address of the node that is shown with what hangs together with it, as `addressOf` writes it; absent: nodes to choose from */
export default function GraphPage({ address }: { address?: string | undefined }) {
  const nodeId = idOf(address);
  const { t } = useTranslation();
  const { files } = useConsole();
  // The address may name the tenant: what was found may be any's.
  const [chosen, setChosen] = useState(() => new URLSearchParams(location.search).get("tenant"));
  const stats = useQuery({
    queryKey: ["storage", "stats"],
    queryFn: ({ signal }) => files.stats(signal),
    staleTime: 60_000,
  });
  const tenants = stats.data?.tenants.map(({ tenant_id }) => tenant_id) ?? [];
  const tenant = chosen ?? (tenants.includes(USUAL_TENANT) ? USUAL_TENANT : tenants[0] ?? USUAL_TENANT);
  return (
    <Page
      title={t("graph.title")}
      about={t("graph.about")}
      actions={nodeId !== undefined && (
        <Button component={Link} href="/graph" variant="default" size="xs">{t("graph.back")}</Button>
      )}
    >
      <Stack>
        {nodeId === undefined && stats.isPending && stats.failureReason && (
          <ErrorState
            error={stats.failureReason}
            retry={() => stats.refetch()}
          />
        )}
        {nodeId === undefined
          ? (
            <Nodes
              tenant={tenant}
              tenants={[...new Set([tenant, ...tenants])]}
              chooseTenant={setChosen}
              isReady={!stats.isPending}
            />
          )
          : <Around key={nodeId} tenant={tenant} nodeId={nodeId} />}
      </Stack>
    </Page>
  );
}

function Nodes({ tenant, tenants, chooseTenant, isReady }: {
  tenant: string;
  tenants: string[];
  chooseTenant: (tenant: string | null) => void;
  isReady: boolean;
}) {
  const { t } = useTranslation();
  const { graph } = useConsole();
  const format = useFormat();
  const [kind, setKind] = useState<NodeKind>("Post");
  const nodes = useQuery({
    queryKey: ["graph", "nodes", tenant, kind],
    queryFn: ({ signal }) => graph.nodes(tenant, kind, signal),
    refetchInterval: EVERY_MS.slow,
    enabled: isReady,
  });
  return (
    <>
      <Group align="flex-end">
        <Select
          label={t("graph.tenant")}
          data={tenants}
          value={tenant}
          allowDeselect={false}
          onChange={chooseTenant}
        />
        <Select
          label={t("graph.kind")}
          data={NODE_KINDS.map((value) => ({ value, label: t(`graph.kinds.${value}`) }))}
          value={kind}
          allowDeselect={false}
          onChange={(value) => setKind(value as NodeKind)}
        />
      </Group>
      <Loaded query={nodes}>
        {({ nodes }) =>
          nodes.length === 0
            ? <EmptyState title={t("graph.none")}>{t("graph.none_about")}</EmptyState>
            : (
              <Stack component="ul" p={0} m={0} gap="xs" style={{ listStyle: "none" }}>
                {nodes.map((node) => (
                  <li key={node.id}>
                    <Anchor component={Link} href={addressOf(node.id)} style={{ overflowWrap: "anywhere" }}>
                      {nameOf(node)}
                    </Anchor>
                    <Text size="xs" c="dimmed" span>{` ${format.time(node.at)}`}</Text>
                  </li>
                ))}
              </Stack>
            )}
      </Loaded>
    </>
  );
}

function Around({ tenant, nodeId }: { tenant: string; nodeId: string }) {
  const { t } = useTranslation();
  const { graph } = useConsole();
  const [depth, setDepth] = useState("1");
  const [kind, key] = [nodeId.slice(0, nodeId.indexOf("/")), nodeId.slice(nodeId.indexOf("/") + 1)];
  const around = useQuery({
    queryKey: ["graph", "neighbours", tenant, nodeId, depth],
    queryFn: ({ signal }) => graph.neighbours(tenant, { kind, key }, Number(depth), signal),
    // What is looked at does not move under the eyes; the button of the page asks again.
    staleTime: 60_000,
  });
  return (
    <Loaded query={around}>
      {(found) => (
        <>
          <Group justify="space-between">
            <SegmentedControl
              size="xs"
              aria-label={t("graph.depth")}
              value={depth}
              onChange={setDepth}
              data={["1", "2", "3"].map((value) => ({
                value,
                label: t("graph.away", { count: Number(value) }),
              }))}
            />
            {found.truncated && <Text size="sm">{t("graph.truncated")}</Text>}
          </Group>
          <Found found={found} tenant={tenant} />
          {kind === "Post" && <Related tenant={tenant} postId={key} />}
        </>
      )}
    </Loaded>
  );
}

function Found({ found, tenant }: { found: Neighbours; tenant: string }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const [center] = found.nodes;
  const hashes = useMemo(
    () =>
      found.nodes.filter(({ kind }) => kind === "ImageContent").slice(0, SHOWN_PICTURES).map(({ key }) =>
        key
      ),
    [found],
  );
  const pictures = useFileAddresses(hashes, tenant);
  const names = useMemo(() => Object.fromEntries(found.nodes.map((node) => [node.id, nameOf(node)])), [
    found,
  ]);
  if (center === undefined) return null;
  return (
    <SimpleGrid cols={{ base: 1, lg: 2 }}>
      <Card withBorder>
        <PartBoundary>
          <Suspense
            fallback={
              <Center mih={420}>
                <Loader role="status" aria-label={t("loading")} />
              </Center>
            }
          >
            <GraphDrawing
              found={found}
              names={names}
              pictures={pictures}
              label={t("graph.drawing", { name: names[center.id], count: found.nodes.length - 1 })}
              choose={(id) => navigate(addressOf(id))}
            />
          </Suspense>
        </PartBoundary>
      </Card>
      <Stack gap="md">
        <Node node={center} />
        {NODE_KINDS.map((kind) => {
          const nodes = found.nodes.filter((node) => node.kind === kind && node.id !== center.id);
          return nodes.length > 0 && (
            <section key={kind} aria-label={t(`graph.kinds.${kind}`)}>
              <Title order={3} size="h5">{t(`graph.kinds.${kind}`)}</Title>
              <Stack component="ul" p={0} m={0} gap={6} style={{ listStyle: "none" }}>
                {nodes.map((node) => (
                  <li key={node.id}>
                    <Group gap="xs" wrap="nowrap" align="flex-start">
                      {kind === "ImageContent" && pictures[node.key] !== undefined && (
                        <Image
                          src={pictures[node.key]}
                          alt={names[node.id]}
                          w={64}
                          h={48}
                          fit="contain"
                          radius="sm"
                        />
                      )}
                      <div style={{ minWidth: 0, overflowWrap: "anywhere" }}>
                        <Anchor component={Link} href={addressOf(node.id)} size="sm">{names[node.id]}</Anchor>
                        {edgesOf(node, found.edges).map(({ kind, from, to }) => (
                          <Text key={`${kind} ${from} ${to}`} size="xs" c="dimmed">
                            {t(from === node.id ? "graph.leads_to" : "graph.comes_from", {
                              edge: t(`graph.edges.${kind as "LINKS_TO"}`),
                              name: names[from === node.id ? to : from],
                            })}
                          </Text>
                        ))}
                      </div>
                    </Group>
                  </li>
                ))}
              </Stack>
            </section>
          );
        })}
      </Stack>
    </SimpleGrid>
  );
}

function Node({ node }: { node: GraphNode }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { properties, key, kind } = node;
  const said = ["text", "description", "excerpt"].map((name) => properties[name]).find((text) =>
    text !== undefined
  );
  return (
    <Card withBorder component="section" aria-label={nameOf(node)}>
      <Stack gap={4} style={{ overflowWrap: "anywhere" }}>
        <Group gap="xs">
          <Badge variant="default" tt="none">{t(`graph.one.${kind}`)}</Badge>
          <Text size="xs" c="dimmed">{format.time(node.at)}</Text>
        </Group>
        <Title order={2} size="h4">{nameOf(node)}</Title>
        {typeof said === "string" && said !== nameOf(node) && <Text size="sm">{said}</Text>}
        {kind === "Article" && /^https?:\/\//.test(key)
          ? <Anchor href={key} size="sm" target="_blank" rel="noreferrer noopener">{key}</Anchor>
          : <Text size="xs" c="dimmed">{key}</Text>}
        {node.trace_id !== null && (
          <Text size="xs" c="dimmed">{t("graph.trace", { trace: node.trace_id })}</Text>
        )}
      </Stack>
    </Card>
  );
}

function Related({ tenant, postId }: { tenant: string; postId: string }) {
  const { t } = useTranslation();
  const { graph } = useConsole();
  const related = useQuery({
    queryKey: ["graph", "related", tenant, postId],
    queryFn: ({ signal }) => graph.related(tenant, postId, signal),
    staleTime: 60_000,
  });
  const posts = related.data?.posts ?? [];
  if (posts.length === 0) return null;
  return (
    <section aria-label={t("graph.related")}>
      <Title order={2} size="h4">{t("graph.related")}</Title>
      <Stack component="ul" p={0} m={0} gap={6} style={{ listStyle: "none" }}>
        {posts.map(({ node, shared }) => (
          <li key={node.id} style={{ overflowWrap: "anywhere" }}>
            <Anchor component={Link} href={addressOf(node.id)} size="sm">{nameOf(node)}</Anchor>
            <Text size="xs" c="dimmed">{t("graph.shares", { names: shared.map(nameOf).join(", ") })}</Text>
          </li>
        ))}
      </Stack>
    </section>
  );
}

/** What a person knows it by. */
function nameOf({ kind, key, properties }: GraphNode): string {
  const said = [properties.title, properties.text, properties.description].find((text) =>
    typeof text === "string" && text !== ""
  ) as string | undefined;
  if (said !== undefined) return said.length <= 80 ? said : `${said.slice(0, 79)}…`;
  return kind === "ImageContent" ? key.slice(0, 12) : key;
}

/** Those of a node that lead nearer to the one that was asked about, or stay as near: the others are said there. */
function edgesOf(node: GraphNode, edges: readonly GraphEdge[]): GraphEdge[] {
  return edges.filter(({ from, to }) => from === node.id || to === node.id).slice(0, 5);
}
