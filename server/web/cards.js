/** A product as a card. Whatever comes from the catalog goes in as text. */

import { showPicture } from "./api.js";

const VERDICTS = { same: "same", variant: "variant", similar: "similar", none: "unlike" };

/** An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function nameOf(product) {
  return product.attributes?.name || product.product_id;
}

/** A card that leads to `href`. An answer also has a score, a verdict, a reason, and `taste(product, how)`. */
export function card(index, product, href, taste = null) {
  const made = document.getElementById("card").content.cloneNode(true).firstElementChild;
  const at = (selector) => made.querySelector(selector);
  const name = nameOf(product);
  at("a").href = href;
  at("a").dataset.product = product.product_id;
  at(".name").textContent = name;
  at(".id").textContent = name === product.product_id ? "" : product.product_id;
  picture(at("img"), index, product, 320);
  if (!taste) {
    at(".judged").remove();
    at(".why").remove();
    return made;
  }
  at(".score").textContent = product.score.toFixed(2);
  if (product.verdict) {
    at(".verdict").textContent = VERDICTS[product.verdict] ?? product.verdict;
    at(".verdict").classList.add(product.verdict);
  }
  for (const [how, words] of [["like", "More like"], ["unlike", "Less like"]]) {
    at(`.${how}`).setAttribute("aria-label", `${words} ${name}`);
    at(`.${how}`).addEventListener("click", () => taste(product, how));
  }
  if (product.explain) explain(at(".why"), product, name);
  else at(".why").remove();
  return made;
}

/** Show the picture in a tile, or say that there is none. */
export function picture(image, index, product, size) {
  image.addEventListener("load", () => image.classList.add("here"), { once: true });
  image.addEventListener("error", () => image.replaceWith(element("span", { className: "missing" }, "no picture")), {
    once: true,
  });
  showPicture(image, index, product, size);
}

/** What was liked or disliked, with a button that takes it back. */
export function chip(index, product, how, remove) {
  const image = element("img", { alt: "" });
  const words = how === "like" ? "more like" : "less like";
  const button = element("button", { type: "button", title: "Take it back" });
  button.setAttribute("aria-label", `No longer ${words} ${nameOf(product)}`);
  button.append(icon("cross"));
  button.addEventListener("click", remove);
  picture(image, index, product, 96);
  const text = element("span", {}, element("small", {}, words), nameOf(product));
  return element("li", { className: how }, image, text, button);
}

export function factsOf(attributes, leaveOut = ["name"]) {
  return Object.entries(attributes ?? {})
    .filter(([name, value]) => value && !leaveOut.includes(name))
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function explain(details, product, name) {
  const { image_id, view, score, views } = product.explain;
  details.querySelector("summary").setAttribute("aria-label", `Why ${name}?`);
  const seen = view ? ` against “${view}” of what was asked` : "";
  details.querySelector("p").textContent = `Its picture ${image_id} matched best${seen}: ${score.toFixed(3)}.`;
  const rows = (views ?? []).map((one) =>
    element("div", {}, element("dt", {}, one.view), element("dd", {}, one.score.toFixed(3))),
  );
  details.querySelector("dl").replaceChildren(...rows);
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

