/**
 * Addresses as they may be shown: in errors and logs, where secrets must not be.
 *
 * @since 0.1.0
 */

/** A URL without user, query and fragment; what is no URL loses what would be one of them. */
export const redactUrl = (url: string): string =>
  url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, "$1").replace(/[?#].*$/s, "")
