/** Filters on the catalog's columns: as text for the server, `column:value,value` or `column:low..high`, and as a form. */

import { element } from "./cards.js";

/** `wanted` is { values } or { low, high }, either of which may be "". */
export function writeFilter(column, wanted) {
  const said = wanted.values ? wanted.values.map(quoted).join(",") : `${wanted.low}..${wanted.high}`;
  return `${quoted(column)}:${said}`;
}

/** The column and what is wanted of it, or null where the text is no filter of ours. */
export function readFilter(text) {
  const range = /^("(?:[^"]|"")*"|[^",;:]+):(-?[0-9.]*?)\.\.(-?[0-9.]*)$/.exec(text);
  if (range) return [plain(range[1]), { low: range[2], high: range[3] }];
  const list = /^("(?:[^"]|"")*"|[^",;:]+):((?:"(?:[^"]|"")*"|[^",;:]+)(?:,(?:"(?:[^"]|"")*"|[^",;:]+))*)$/.exec(text);
  if (!list) return null;
  return [plain(list[1]), { values: list[2].match(/"(?:[^"]|"")*"|[^",]+/g).map(plain) }];
}

/** Fill the form with a control for each column that one would filter by; `change` is told what is wanted of a column. */
export function showFacets(form, attributes, products, view, change) {
  const useful = attributes.filter((attribute) => isUseful(attribute, products));
  form.replaceChildren(
    verdictChoice(view.verdict, (verdict) => change("", verdict)),
    ...useful.map((attribute) => {
      const wanted = view.filters.get(attribute.name);
      const body = isRange(attribute) ? rangeOf(attribute, wanted, change) : choicesOf(attribute, wanted, change);
      const facet = element("details", { open: Boolean(wanted) }, element("summary", {}, attribute.name), body);
      facet.className = "facet";
      return facet;
    }),
  );
}

function isUseful(attribute, products) {
  const { values, distinct } = attribute;
  // A name that every product has for itself is for searching, not for filtering.
  return distinct > 1 && (isRange(attribute) || distinct <= values.length || values[0].count * 50 > products);
}

function isRange({ low, distinct }) {
  return low !== undefined && distinct > 6;
}

function choicesOf(attribute, wanted, change) {
  const chosen = new Set(wanted?.values);
  const values = attribute.values.map(({ value }) => value);
  const lost = [...chosen].filter((value) => !values.includes(value)).map((value) => ({ value, count: "" }));
  const boxes = [...lost, ...attribute.values].map(({ value, count }) => {
    const box = element("input", { type: "checkbox", checked: chosen.has(value) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      change(attribute.name, chosen.size ? { values: [...chosen] } : null);
    });
    return element("label", {}, box, element("span", {}, value), element("small", {}, String(count)));
  });
  const group = element("div", { className: "choices" }, ...boxes);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", attribute.name);
  return group;
}

function rangeOf(attribute, wanted, change) {
  const [low, high] = ["low", "high"].map((end) =>
    element("input", { type: "number", step: "any", placeholder: attribute[end], value: wanted?.[end] ?? "" }),
  );
  const told = () => change(attribute.name, low.value || high.value ? { low: low.value, high: high.value } : null);
  low.addEventListener("change", told);
  high.addEventListener("change", told);
  const ends = [low, high].map((input, at) => {
    const hidden = element("span", { className: "hidden" }, `${attribute.name}, ${at ? "to" : "from"}`);
    return element("label", {}, hidden, input);
  });
  return element("div", { className: "range" }, ends[0], " to ", ends[1]);
}

function verdictChoice(verdict, choose) {
  const names = { "": "any answer", similar: "similar or closer", variant: "variants or the same", same: "the same only" };
  const options = Object.entries(names).map(([value, name]) =>
    element("option", { value, selected: value === verdict }, name),
  );
  const select = element("select", {}, ...options);
  select.addEventListener("change", () => choose(select.value));
  return element("label", { className: "least" }, "Alike enough ", select);
}

function quoted(text) {
  return /[",;:]|\.\.|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function plain(text) {
  return text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text;
}
