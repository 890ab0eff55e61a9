/** Questions to the server, with the API key of this tab where one was given. Whatever goes wrong is one sentence. */

export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

const KEY = "api-key";

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

/** The answer's JSON. `query` is a list of name and value. Throws `Problem`. */
export async function ask(path, query = [], options = {}) {
  const kept = query.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return (await asked(kept.length ? `${path}?${new URLSearchParams(kept)}` : path, options)).json();
}

export function post(path, query, body, options = {}) {
  const json = !(body instanceof Blob);
  const type = json ? "application/json" : body.type || "application/octet-stream";
  const sent = { method: "POST", body: json ? JSON.stringify(body) : body, headers: { "Content-Type": type } };
  return ask(path, query, { ...sent, ...options });
}

export function place(index, product, what = "") {
  return `/v1/${index}/products/${encodeURIComponent(product)}${what}`;
}

/** Show a product's picture. One on the web is loaded from there; the server makes a small one of its own. */
export async function showPicture(image, index, product, size) {
  if (/^https?:/.test(product.image_url)) {
    image.src = product.image_url;
    return;
  }
  const query = new URLSearchParams({ size, image_id: product.image_id });
  const path = `${place(index, product.product_id, "/image")}?${query}`;
  if (!sessionStorage.getItem(KEY)) {
    image.src = path;
    return;
  }
  try {
    // An <img> sends no key.
    const url = URL.createObjectURL(await (await asked(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

async function asked(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached. Look whether it runs, and try again.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem(said.detail || `The server answered with status ${answer.status}.`, answer.status);
}
