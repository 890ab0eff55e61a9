/** What is looked at, as the address says it. A photo is not part of an address: only that there was one. */

import { readFilter, writeFilter } from "./filters.js";

const STEP = 24;

/** Nothing asked yet. `photo` is { blob, crop } or null; `filters` a map: column -> values or range. */
export function nothing(index = "") {
  const asked = { text: "", product: "", photo: null, lostPhoto: false, like: [], unlike: [] };
  return { index, ...asked, filters: new Map(), verdict: "", k: STEP };
}

export function isQuestion(view) {
  return Boolean(view.product || view.photo);
}

export function read(search) {
  const query = new URLSearchParams(search);
  const view = nothing(query.get("index") ?? "");
  for (const name of ["text", "product", "verdict"]) view[name] = query.get(name) ?? "";
  view.lostPhoto = query.has("photo");
  view.like = query.getAll("like");
  view.unlike = query.getAll("unlike");
  for (const text of query.getAll("filter")) {
    const found = readFilter(text);
    if (found) view.filters.set(...found);
  }
  view.k = Math.min(1000, Math.max(STEP, Number.parseInt(query.get("k"), 10) || STEP));
  return view;
}

export function write(view) {
  const pairs = [["index", view.index]];
  for (const name of ["text", "product"]) if (view[name]) pairs.push([name, view[name]]);
  if (view.photo) pairs.push(["photo", "yours"]);
  if (isQuestion(view)) {
    for (const id of view.like) pairs.push(["like", id]);
    for (const id of view.unlike) pairs.push(["unlike", id]);
    for (const text of filterTexts(view)) pairs.push(["filter", text]);
    if (view.verdict) pairs.push(["verdict", view.verdict]);
    if (view.k !== STEP) pairs.push(["k", view.k]);
  }
  return `?${new URLSearchParams(pairs)}`;
}

export function filterTexts(view) {
  return [...view.filters].map(([column, wanted]) => writeFilter(column, wanted));
}

export { STEP };
