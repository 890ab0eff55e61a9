/** The things in a photo: a button on each, which searches for that one alone. */

import { post } from "./api.js";
import { element } from "./cards.js";

const MOST = 3;

/** Find the things of a photo and put a button on each; `choose(crop)` is called with the one that is pressed. Returns
 * how many there are. */
export async function showThings(room, index, photo, choose, signal) {
  const { objects } = await post(`/v1/${index}/search`, [["k", 1], ["objects", MOST]], photo, { signal });
  hideThings(room);
  const things = objects.map(({ crop }, at) => ({ number: at + 1, crop: crop ?? [0, 0, 1, 1] }));
  things.sort((one, other) => other.crop[2] * other.crop[3] - one.crop[2] * one.crop[3]); // small ones lie on large ones
  if (things.length > 1) room.append(...things.map(({ crop, number }) => thing(crop, number, choose)));
  return objects.length;
}

export function hideThings(room) {
  for (const button of room.querySelectorAll(".thing")) button.remove();
}

function thing(crop, number, choose) {
  const [x, y, width, height] = crop;
  const button = element("button", { className: "thing", type: "button", title: `Search for thing ${number}` }, `${number}`);
  button.style.inset = [y, 1 - x - width, 1 - y - height, x].map((edge) => `${edge * 100}%`).join(" ");
  button.addEventListener("click", () => choose(crop));
  return button;
}
