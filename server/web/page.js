/** The page: what is looked at (the view), asked of the server, and shown. */

import { Problem, ask, forgetKey, place, post, useKey } from "./api.js";
import { card, chip, element, factsOf, nameOf, picture } from "./cards.js";
import { Crop } from "./crop.js";
import { showFacets } from "./filters.js";
import { STEP, filterTexts, isQuestion, nothing, read, write } from "./link.js";
import { base64, prepared, watch } from "./photo.js";
import { hideThings, showThings } from "./things.js";

const $ = (id) => document.getElementById(id);
const PAGE = 48;
const photos = []; // of this tab, so that going back finds them
const known = new Map(); // index, product -> its answer
const WHOLE = [0, 0, 1, 1];
let view = nothing();
let indexes = [];
let current = new AbortController();
let facets = "";
let typing = 0;
let started = Promise.resolve();
const crop = new Crop($("crop"), (wanted) => go({ photo: { ...view.photo, crop: wanted ?? WHOLE }, k: STEP }, { replace: true }));

/** Look at something else. */
function go(changes, { replace = false, focus = false } = {}) {
  view = { ...view, lostPhoto: false, ...changes };
  if (view.photo) photos[view.photo.number] = view.photo;
  history[replace ? "replaceState" : "pushState"]({ photo: view.photo?.number }, "", write(view));
  show(focus);
}

async function show(focus = false) {
  current.abort();
  const { signal } = (current = new AbortController());
  complain("");
  $("index").value = view.index;
  if (!typing && $("text").value.trim() !== view.text) $("text").value = view.text;
  $("grid").setAttribute("aria-busy", "true");
  try {
    await (isQuestion(view) ? showAnswers(signal) : showProducts(signal));
    if (signal.aborted) return;
    if (focus) {
      $("heading").focus({ preventScroll: true });
      window.scrollTo({ top: 0 });
    }
  } catch (error) {
    if (signal.aborted) return;
    $("grid").replaceChildren();
    $("more").hidden = $("copy").hidden = true;
    heading("");
    $("status").textContent = "";
    failed(error, signal);
  }
  $("grid").removeAttribute("aria-busy");
}

function failed(error, signal) {
  if (!(error instanceof Problem)) {
    complain("The page failed. Load it again.");
    throw error;
  }
  if (error.status === 401) {
    const again = sessionStorage.getItem("api-key") !== null;
    forgetKey();
    $("key").hidden = false;
    $("secret").focus();
    complain(again ? error.message : "");
    return;
  }
  complain(error.message);
  if (error.status === 503) {
    $("alert").append(" It is asked again in a few seconds.");
    setTimeout(() => signal.aborted || show(), 4000);
  } else if (isQuestion(view)) {
    const all = element("a", { href: write(nothing(view.index)) }, "See all products");
    all.dataset.product = "";
    $("alert").append(" ", all, ".");
  }
}

function complain(sentence) {
  $("alert").textContent = sentence;
}

async function showProducts(signal) {
  $("aside").hidden = $("copy").hidden = true;
  $("room").classList.remove("asked");
  const list = `/v1/${view.index}/products`;
  const page = (offset) => ask(list, [["text", view.text], ["limit", PAGE], ["offset", offset]], { signal });
  const { total, products } = await page(0);
  const found = total === 1 ? "1 product" : `${total.toLocaleString("en")} products`;
  heading(view.text ? `Products with “${view.text}”` : "All products");
  const hint = photosWork() ? "Choose one to see what looks like it, or use a picture of your own." : "Choose one to see what looks like it.";
  $("status").textContent = total ? `${found}. ${hint}` : "None begins so. Try fewer or shorter words.";
  if (view.lostPhoto) {
    $("status").textContent = `This link was made with a photo, and photos are never part of a link. Add it again to see its answers. ${$("status").textContent}`;
  }
  const add = (more) => $("grid").append(...more.map((product) => card(view.index, product, linkTo(product))));
  $("grid").replaceChildren();
  add(products);
  let shown = products.length;
  $("more").hidden = shown >= total;
  $("more").onclick = async () => {
    try {
      const more = await page(shown);
      shown += more.products.length;
      add(more.products);
      $("more").hidden = shown >= total || !more.products.length;
    } catch (error) {
      if (!signal.aborted) failed(error, signal);
    }
  };
}

async function showAnswers(signal) {
  const asked = view.product ? await productOf(view.product, signal) : null;
  if (signal.aborted) return;
  showAsked(asked);
  showTastes(signal);
  showFilters(signal);
  const { results, crop: found } = await answers(signal);
  if (signal.aborted) return;
  if (found) frame(found);
  heading(`Most like ${asked ? nameOf(asked) : "your photo"}`);
  $("status").textContent = verdictOn(results);
  $("grid").replaceChildren(...results.map((found) => card(view.index, found, linkTo(found), taste)));
  $("more").hidden = results.length < view.k || view.k >= 1000;
  $("more").onclick = () => go({ k: Math.min(1000, view.k + STEP) }, { replace: true });
  $("copy").hidden = false;
}

async function answers(signal) {
  const query = [["k", view.k], ["explain", "true"], ["verdict", view.verdict]];
  query.push(...filterTexts(view).map((text) => ["filter", text]));
  const framed = view.photo?.crop?.join(",");
  if (view.like.length || view.unlike.length) {
    const one = (id) => ({ product_id: id });
    const photo = view.photo && { image_base64: await base64(view.photo.blob), ...(framed && { crop: framed }) };
    const like = [photo || one(view.product), ...view.like.map(one)];
    return post(`/v1/${view.index}/similar`, query, { like, unlike: view.unlike.map(one) }, { signal });
  }
  if (view.photo) return post(`/v1/${view.index}/search`, [...query, ["crop", framed]], view.photo.blob, { signal });
  return ask(place(view.index, view.product, "/similar"), query, { signal });
}

/** Draw the part of the photo that is searched: the one that was framed, or the one that the server found. */
function frame(part) {
  crop.set(part);
  $("whole").hidden = crop.value === null;
}

/** Ask which things the photo shows, and let one be chosen. */
async function severalThings() {
  const { signal } = current;
  const choose = (part) => go({ photo: { ...view.photo, crop: part ?? WHOLE }, k: STEP });
  $("status").textContent = "Looking for things ..";
  try {
    const count = await showThings($("crop"), view.index, view.photo.blob, choose, signal);
    const found = `There are ${count} things in it. Choose one on your photo.`;
    if (!signal.aborted) $("status").textContent = count > 1 ? found : "Only one thing was found in it.";
  } catch (error) {
    if (!signal.aborted) failed(error, signal);
  }
}

function verdictOn(results) {
  if (!results.length) return "Nothing in this catalog fits. Take a filter away.";
  if (results[0].verdict === "none" && view.photo) {
    return "Nothing in this catalog is truly like it. These come nearest.";
  }
  return "Use + and − for more or less like one of them.";
}

function showAsked(asked) {
  $("aside").hidden = false;
  $("room").classList.add("asked");
  const image = element("img", { id: "asked", alt: asked ? nameOf(asked) : "Your photo" });
  $("asked")?.remove();
  $("crop").querySelector(".missing")?.remove();
  $("crop").prepend(image);
  $("crop").classList.toggle("tile", Boolean(asked));
  crop.active = Boolean(view.photo);
  hideThings($("crop"));
  $("hint").hidden = !view.photo;
  $("whole").hidden = true;
  $("views").replaceChildren();
  $("name").textContent = asked ? nameOf(asked) : "";
  $("facts").replaceChildren();
  if (view.photo) {
    image.src = view.photo.url;
    frame(view.photo.crop);
    return;
  }
  picture(image, view.index, asked, 640);
  const id = nameOf(asked) === asked.product_id ? {} : { id: asked.product_id };
  $("facts").replaceChildren(...factsOf({ ...id, ...asked.attributes }));
  if (asked.images.length > 1) {
    const views = asked.images.map((one) => {
      const small = element("img", { alt: `Picture ${one.image_id}`, loading: "lazy" });
      picture(small, view.index, { ...one, product_id: asked.product_id }, 96);
      return element("li", { className: "tile" }, small);
    });
    $("views").replaceChildren(...views);
  }
}

async function showTastes(signal) {
  const all = [...view.like.map((id) => [id, "like"]), ...view.unlike.map((id) => [id, "unlike"])];
  $("tastes").hidden = !all.length;
  const chips = await Promise.all(
    all.map(async ([id, how]) => {
      const product = await productOf(id, signal).catch(() => ({ product_id: id, image_url: "" }));
      return chip(view.index, product, how, () => go({ [how]: view[how].filter((one) => one !== id) }, { focus: true }));
    }),
  );
  if (!signal.aborted) $("chips").replaceChildren(...chips);
}

function taste(product, how) {
  const id = product.product_id;
  const rest = { like: view.like.filter((one) => one !== id), unlike: view.unlike.filter((one) => one !== id) };
  known.set(`${view.index} ${id}`, Promise.resolve({ ...product, images: [product] }));
  go({ ...rest, [how]: [...rest[how], id] }, { focus: true });
}

/** The controls stay as they are while somebody uses them. */
async function showFilters(signal) {
  const state = write({ ...nothing(view.index), product: "x", filters: view.filters, verdict: view.verdict });
  const count = view.filters.size + (view.verdict ? 1 : 0);
  $("active").textContent = count ? `${count} on` : "";
  if (facets === state) return;
  let attributes = [];
  try {
    ({ attributes } = await ask(`/v1/${view.index}/attributes`, [], { signal }));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
  }
  const products = indexes.find((one) => nameOfIndex(one) === view.index)?.products ?? 1;
  facets = state;
  showFacets($("facets"), attributes, products, view, (column, wanted) => {
    const filters = new Map(view.filters);
    if (wanted && column) filters.set(column, wanted);
    else filters.delete(column);
    const verdict = column ? view.verdict : wanted;
    facets = write({ ...nothing(view.index), product: "x", filters, verdict });
    go({ filters, verdict, k: STEP });
  });
  $("filters").hidden = false;
}

function productOf(id, signal) {
  const key = `${view.index} ${id}`;
  if (!known.has(key)) {
    const asked = ask(place(view.index, id), [], { signal }).then((found) => ({ ...found, ...found.images[0] }));
    asked.catch(() => known.delete(key));
    known.set(key, asked);
  }
  return known.get(key);
}

function linkTo(product) {
  return write({ ...nothing(view.index), product: product.product_id });
}

function heading(text) {
  $("heading").textContent = text;
  document.title = text || "Which products look alike?";
}

function nameOfIndex(index) {
  return `${index.department}/${index.domain}`;
}

function photosWork() {
  return indexes.find((one) => nameOfIndex(one) === view.index)?.photo_search !== "off";
}

async function usePhoto(file) {
  try {
    const blob = await prepared(file);
    await started;
    const photo = { blob, url: URL.createObjectURL(blob), crop: null, number: photos.length };
    go({ ...nothing(view.index), photo }, { focus: true });
  } catch (error) {
    failed(error, current.signal);
  }
}

function search() {
  const text = $("text").value.trim();
  if (text !== view.text || isQuestion(view)) go({ ...nothing(view.index), text }, { replace: !isQuestion(view) });
}

/** Enter opens the one product that is meant. */
async function enter() {
  await started;
  typing = 0;
  search();
  const text = $("text").value.trim();
  if (!text) return;
  const found = await ask(`/v1/${view.index}/products`, [["text", text], ["limit", 1]]).catch(() => null);
  const [first] = found?.products ?? [];
  if (first && (found.total === 1 || first.product_id === text)) {
    go({ ...nothing(view.index), product: first.product_id }, { focus: true });
  }
}

async function copy() {
  const without = view.photo ? " Your photo is not in it: photos never leave this page but to be searched." : "";
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = `The link is copied.${without}`;
  } catch {
    $("status").textContent = `The link is in the address bar.${without}`;
  }
}

function backOrForward(event) {
  view = { ...read(location.search), index: knownIndex(read(location.search).index) };
  const photo = photos[event.state?.photo];
  if (photo) view = { ...view, photo, lostPhoto: false };
  show();
}

function knownIndex(name) {
  return indexes.some((one) => nameOfIndex(one) === name) ? name : nameOfIndex(indexes[0]);
}

async function start() {
  try {
    ({ indexes } = await ask("/v1/indexes"));
  } catch (error) {
    failed(error, current.signal);
    return;
  }
  if (!indexes.length) {
    complain("No catalog is served here yet. Make an index: make demo, or make index.");
    return;
  }
  $("index").replaceChildren(...indexes.map((one) => element("option", {}, nameOfIndex(one))));
  backOrForward({ state: null });
  $("photos").hidden = !photosWork();
}

$("index").addEventListener("change", () => {
  go(nothing($("index").value));
  $("photos").hidden = !photosWork();
});
$("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(async () => {
    await started;
    typing = 0;
    search();
  }, 200);
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  enter();
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("secret").value.trim());
  $("key").hidden = true;
  $("secret").value = "";
  started = start();
});
$("facets").addEventListener("submit", (event) => event.preventDefault());
$("whole").addEventListener("click", () => go({ photo: { ...view.photo, crop: WHOLE } }, { replace: true }));
$("things").addEventListener("click", severalThings);
$("copy").addEventListener("click", copy);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  $("heading").focus();
});
// A link of ours changes the view; with a modifier it opens as links do.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-product], #home");
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go({ ...nothing(view.index), product: link.dataset.product ?? "" }, { focus: true });
});
window.addEventListener("popstate", backOrForward);
$("filters").open = matchMedia("(min-width: 700px)").matches;
watch([$("file"), $("camera")], $("drop"), usePhoto);
started = start();
