/** A frame on a picture: drawn, moved and resized by mouse or finger; its edges are sliders for the keyboard. */

const LEAST = 0.05;
const between = (value, low, high) => Math.min(high, Math.max(low, value));

export class Crop {
  /** `changed` is called with [x, y, width, height] in fractions, or null for the whole, once a change is finished. */
  constructor(room, changed) {
    this.room = room;
    this.changed = changed;
    this.frame = room.querySelector(".frame");
    this.corners = [...this.frame.children];
    this.fields = room.querySelector(".edges");
    this.sliders = [...room.querySelectorAll("input")];
    this.set(null);
    room.addEventListener("pointerdown", (event) => this.#grab(event));
    this.sliders.forEach((slider, at) => {
      slider.addEventListener("input", () => this.#slide(at, slider.valueAsNumber / 100));
      slider.addEventListener("change", () => this.#done());
      slider.addEventListener("focus", () => this.frame.setAttribute("data-edge", at));
      slider.addEventListener("blur", () => this.frame.removeAttribute("data-edge"));
    });
  }

  /** Whether there is a frame at all. */
  set active(active) {
    this.frame.hidden = this.fields.hidden = !active;
    this.room.classList.toggle("active", active);
  }

  get active() {
    return !this.frame.hidden;
  }

  set(crop) {
    const [x, y, width, height] = crop ?? [0, 0, 1, 1];
    this.edges = [x, y, x + width, y + height];
    this.#draw();
  }

  get value() {
    const [left, top, right, bottom] = this.edges;
    if (right - left > 0.995 && bottom - top > 0.995) return null;
    return [left, top, right - left, bottom - top].map((edge) => Number(edge.toFixed(4)));
  }

  #grab(event) {
    if (!this.active || event.button > 0 || event.target.closest("button")) return;
    event.preventDefault();
    const before = [...this.edges];
    const [startX, startY] = this.#point(event);
    const corner = this.corners.indexOf(event.target);
    const whole = this.value === null;
    const move = (step) => {
      const [x, y] = this.#point(step);
      if (corner >= 0) this.#resize(before, corner, x, y);
      else if (event.target === this.frame && !whole) this.#move(before, x - startX, y - startY);
      else this.edges = [Math.min(startX, x), Math.min(startY, y), Math.max(startX, x), Math.max(startY, y)];
      this.#draw();
    };
    const end = (step) => {
      this.room.removeEventListener("pointermove", move);
      this.room.removeEventListener("pointerup", end);
      this.room.removeEventListener("pointercancel", end);
      const [left, top, right, bottom] = this.edges;
      const slip = right - left < LEAST || bottom - top < LEAST; // a tap, not a frame
      if (slip || step.type === "pointercancel") this.edges = before;
      this.#draw();
      if (String(this.edges) !== String(before)) this.#done();
    };
    this.room.setPointerCapture(event.pointerId);
    this.room.addEventListener("pointermove", move);
    this.room.addEventListener("pointerup", end);
    this.room.addEventListener("pointercancel", end);
  }

  #point(event) {
    const box = this.room.getBoundingClientRect();
    const share = (value, size) => between(value / size, 0, 1);
    return [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)];
  }

  #move([left, top, right, bottom], byX, byY) {
    const x = between(byX, -left, 1 - right);
    const y = between(byY, -top, 1 - bottom);
    this.edges = [left + x, top + y, right + x, bottom + y];
  }

  /** Corners: top left, top right, bottom right, bottom left. */
  #resize([left, top, right, bottom], corner, x, y) {
    const west = corner === 0 || corner === 3;
    const north = corner < 2;
    this.edges = [
      west ? Math.min(x, right - LEAST) : left,
      north ? Math.min(y, bottom - LEAST) : top,
      west ? right : Math.max(x, left + LEAST),
      north ? bottom : Math.max(y, top + LEAST),
    ];
  }

  #slide(at, value) {
    const [left, top, right, bottom] = this.edges;
    const limits = [[0, right - LEAST], [0, bottom - LEAST], [left + LEAST, 1], [top + LEAST, 1]];
    this.edges[at] = between(value, ...limits[at]);
    this.#draw();
  }

  #done() {
    this.changed(this.value);
  }

  #draw() {
    const [left, top, right, bottom] = this.edges;
    this.frame.style.inset = [top, 1 - right, 1 - bottom, left].map((edge) => `${edge * 100}%`).join(" ");
    this.sliders.forEach((slider, at) => {
      slider.value = Math.round(this.edges[at] * 100);
    });
  }
}
