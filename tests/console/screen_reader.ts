/** What Chromium tells a screen reader of a page: its accessibility tree, as the browser itself computes it. */
import type { CDPSession, Page } from "playwright-core";

/** Of the DevTools protocol (Accessibility.AXNode), what is read here. */
interface AxNode {
  nodeId: string;
  parentId?: string;
  childIds?: string[];
  ignored: boolean;
  role?: { value: string };
  name?: { value?: string };
  description?: { value?: string };
  properties?: { name: string; value: { value?: unknown } }[];
}

/** Texts between the controls, which change with every call, and boxes without a meaning. */
const LEFT_OUT = new Set([
  "StaticText",
  "InlineTextBox",
  "LineBreak",
  "ListMarker",
  "LayoutTable",
  "LayoutTableRow",
  "LayoutTableCell",
  "Section",
  "RootWebArea",
  "generic",
  "none",
  "paragraph",
  "row",
  "rowgroup",
  "cell",
  "gridcell",
  "rowheader",
  "listitem",
  "strong",
  "emphasis",
  "code",
  "option",
  "labelText",
  "LabelText",
  "DescriptionListDetail",
  "DescriptionListTerm",
]);
/** What is told beside the name. */
const STATES = [
  "level",
  "required",
  "invalid",
  "expanded",
  "disabled",
  "checked",
  "pressed",
  "modal",
  "busy",
  "hasPopup",
];
/** What is so of nearly all is not told. */
const USUAL = new Set([false, "false", undefined]);

/** For the life of the page. */
export async function openScreenReader(page: Page): Promise<CDPSession> {
  const session = await page.context().newCDPSession(page);
  await session.send("Accessibility.enable");
  return session;
}

/**
 * The parts below the last node of the role, each once, in the order in which they are read: role, name, description and states.
 * Figures are `N`, names of models `MODEL`, those of quota projects `PROJECT`.
 */
export async function partsRead(session: CDPSession, role: "main" | "dialog" | "banner"): Promise<string[]> {
  const { nodes } = await session.send("Accessibility.getFullAXTree") as unknown as { nodes: AxNode[] };
  const byId = new Map(nodes.map((node) => [node.nodeId, node]));
  const root = nodes.findLast((node) => !node.ignored && node.role?.value === role);
  if (root === undefined) throw new Error(`a screen reader finds no ${role}`);
  const parts: string[] = [];
  const read = (node: AxNode) => {
    if (!node.ignored && !LEFT_OUT.has(node.role?.value ?? "none")) parts.push(lineOf(node));
    for (const id of node.childIds ?? []) {
      const child = byId.get(id);
      if (child) read(child);
    }
  };
  read(root);
  return [...new Set(parts)];
}

function lineOf({ role, name, description, properties = [] }: AxNode): string {
  const text = (value: string | undefined) =>
    value
      ? ` ${
        JSON.stringify(
          value.replaceAll(/\bgem(?:ini|ma)-[\w.-]+/g, "MODEL").replaceAll(/\bdemo-(?:one|two)\b/g, "PROJECT")
            .replaceAll(/\d+(?:[.,:\u202f\u00a0]\d+)*/g, "N").slice(0, 160),
        )
      }`
      : "";
  // A dialog is described by all that is in it, which is told anyway.
  const about = role?.value === "dialog" ? undefined : description?.value;
  const states = properties.filter(({ name, value }) =>
    STATES.includes(name) && !USUAL.has(value.value as false)
  )
    .map(({ name, value }) => value.value === true ? ` ${name}` : ` ${name}=${value.value}`);
  return `${role?.value}${text(name?.value)}${about ? ` (${text(about).trim()})` : ""}${states.join("")}`;
}
