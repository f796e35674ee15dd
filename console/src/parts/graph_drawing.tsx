import { ActionIcon, Group, useComputedColorScheme } from "@mantine/core";
import cytoscape, { type Core, type StylesheetJson } from "cytoscape";
import { Maximize, ZoomIn, ZoomOut } from "lucide-react";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import type { Neighbours, NodeKind } from "../api/graph.ts";

/** Colours that are told apart in both schemes, and shapes for those who do not tell colours apart. */
const LOOKS: Record<
  NodeKind,
  { color: string; shape: "ellipse" | "rectangle" | "round-rectangle" | "tag" | "hexagon" | "diamond" }
> = {
  Post: { color: "#1971c2", shape: "round-rectangle" },
  ImageContent: { color: "#868e96", shape: "rectangle" },
  Article: { color: "#2f9e44", shape: "hexagon" },
  Label: { color: "#e8590c", shape: "tag" },
  Channel: { color: "#9c36b5", shape: "ellipse" },
  Domain: { color: "#0c8599", shape: "diamond" },
};
const MAX_LABEL = 28;

/** Nodes around one of them. `label` says in words what the picture shows; a list beside it has the same for those who do not see it. */
export default function GraphDrawing({ found, names, pictures, label, choose }: {
  found: Neighbours;
  /** By a node's id. */
  names: Record<string, string>;
  /** Addresses of pictures, by their SHA-256. */
  pictures: Record<string, string>;
  label: string;
  choose: (id: string) => void;
}) {
  const { t } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const dark = scheme === "dark";
  const place = useRef<HTMLDivElement>(null);
  const drawn = useRef<Core>(undefined);
  const chosen = useRef(choose);
  chosen.current = choose;

  useEffect(() => {
    const graph = cytoscape({
      container: place.current,
      elements: [
        ...found.nodes.map(({ id, kind, depth }) => ({
          data: { id, kind, depth, name: cut(names[id] ?? id) },
        })),
        ...found.edges.map(({ kind, from, to }) => ({
          data: { id: `${from} ${kind} ${to}`, source: from, target: to, name: kind },
        })),
      ],
      style: styles(dark),
      // The same picture each time.
      layout: {
        name: "concentric",
        concentric: (node) => -node.data("depth"),
        levelWidth: () => 1,
        minNodeSpacing: 50,
        // Aslant, so that names below nodes and on edges stay apart.
        startAngle: -Math.PI / 5,
        animate: false,
      },
      // The wheel scrolls the page.
      userZoomingEnabled: false,
      autounselectify: true,
    });
    graph.on("tap", "node", ({ target }) => chosen.current(target.id()));
    drawn.current = graph;
    return () => graph.destroy();
  }, [found, names, dark]);

  useEffect(() => {
    let shown = 0;
    drawn.current?.nodes("[kind = 'ImageContent']").forEach((node) => {
      const address = pictures[node.id().slice("ImageContent/".length)];
      if (address === undefined) return;
      node.style({ "background-image": address, "background-fit": "cover" });
      shown++;
    });
    place.current?.setAttribute("data-pictures", String(shown));
  }, [pictures, found, names, dark]);

  const zoom = (factor: number) => {
    const graph = drawn.current;
    graph?.zoom({
      level: graph.zoom() * factor,
      renderedPosition: { x: graph.width() / 2, y: graph.height() / 2 },
    });
  };
  return (
    <figure style={{ margin: 0 }} aria-label={label}>
      <Group gap={4} justify="flex-end">
        <ActionIcon variant="default" aria-label={t("graph.closer")} onClick={() => zoom(1.4)}>
          <ZoomIn size={16} aria-hidden />
        </ActionIcon>
        <ActionIcon variant="default" aria-label={t("graph.farther")} onClick={() => zoom(1 / 1.4)}>
          <ZoomOut size={16} aria-hidden />
        </ActionIcon>
        <ActionIcon
          variant="default"
          aria-label={t("graph.whole")}
          onClick={() => drawn.current?.fit(undefined, 30)}
        >
          <Maximize size={16} aria-hidden />
        </ActionIcon>
      </Group>
      <div ref={place} className="graph-drawing" aria-hidden data-nodes={found.nodes.length} />
    </figure>
  );
}

function styles(dark: boolean): StylesheetJson {
  const text = dark ? "#f1f3f5" : "#212529";
  const line = dark ? "#868e96" : "#adb5bd";
  return [
    {
      selector: "node",
      style: {
        label: "data(name)",
        color: text,
        "font-size": 11,
        "text-valign": "bottom",
        "text-margin-y": 4,
        "text-wrap": "wrap",
        "text-max-width": "110px",
        "text-background-color": dark ? "#242424" : "#ffffff",
        "text-background-opacity": 0.85,
        width: 34,
        height: 34,
      },
    },
    ...Object.entries(LOOKS).map(([kind, { color, shape }]) => ({
      selector: `node[kind = '${kind}']`,
      style: { "background-color": color, shape },
    })),
    { selector: "node[kind = 'ImageContent']", style: { width: 56, height: 44 } },
    {
      selector: "node[depth = 0]",
      style: { width: 52, height: 52, "border-width": 3, "border-color": text },
    },
    {
      selector: "edge",
      style: {
        width: 1.5,
        "line-color": line,
        "target-arrow-color": line,
        "target-arrow-shape": "triangle",
        "curve-style": "bezier",
        label: "data(name)",
        color: text,
        "font-size": 8,
        "text-rotation": "autorotate",
        "text-opacity": 0.8,
      },
    },
  ];
}

function cut(name: string): string {
  return name.length <= MAX_LABEL ? name : `${name.slice(0, MAX_LABEL - 1)}…`;
}
