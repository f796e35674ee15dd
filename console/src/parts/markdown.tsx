import { Anchor } from "@mantine/core";
import MarkdownToJsx from "markdown-to-jsx";
import type { ReactNode } from "react";

/** Where a link in a text of somebody else may lead. */
const FOLLOWED = /^(https?:|mailto:)/i;

function Link({ href, children }: { href?: string; children?: ReactNode }) {
  if (href === undefined || !FOLLOWED.test(href)) return <>{children}</>;
  return <Anchor href={href} target="_blank" rel="noreferrer noopener">{children}</Anchor>;
}

/** The address and the words of a picture: to load it would tell its server who reads this, and what the address says. */
function Picture({ src, alt }: { src?: string; alt?: string }) {
  return <Link {...(src && { href: src })}>{alt || src}</Link>;
}

const OPTIONS = {
  disableParsingRawHTML: true,
  wrapper: "div",
  forceWrapper: true,
  forceBlock: true,
  overrides: { a: { component: Link }, img: { component: Picture } },
} as const;

/** Markdown that a model or a user wrote. HTML in it is shown as text, and nothing is loaded from anywhere. */
export function Markdown({ children }: { children: string }) {
  return (
    <div className="markdown">
      <MarkdownToJsx options={OPTIONS}>{children}</MarkdownToJsx>
    </div>
  );
}
