/**
 * Removes secrets from URLs that are shown in errors and logs.
 *
 * @since 0.1.0
 */

/** Removes user info, query and fragment from a URL. Works on text, so invalid URLs are redacted as well. */
export const redactUrl = (url: string): string =>
  url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, "$1").replace(/[?#].*$/s, "")
