/** The gateway's version: the one of package.json, which deployed functions do not carry. A test compares the two. */
export const VERSION = "0.1.0";
