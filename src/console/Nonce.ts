/**
 * Styles that are made by script carry the nonce of the page: the content security policy admits no others. The emulator
 * makes `<style>` elements and offers no other way to mark them.
 *
 * @since 0.1.0
 */

/** Gives elements the nonce from now on. */
export const install = (): void => {
  const nonce = document.querySelector<HTMLScriptElement>("script[nonce]")?.nonce ?? ""
  const create = document.createElement.bind(document)
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    const element = create(name, options)
    if (element instanceof HTMLStyleElement) element.nonce = nonce
    return element
  }) as typeof document.createElement
}
