/** Pictures that people give: chosen, taken, dropped or pasted; and made small enough to send. */

import { Problem } from "./api.js";

const MOST_BYTES = 4 * 1024 * 1024;
const LONGEST_EDGE = 2048;
const READ_BY_SERVER = new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/avif"]);

/** Call `give(file)` with each picture that somebody gives, wherever on the page. */
export function watch(inputs, curtain, give) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      if (input.files.length) give(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file) return; // text, for the field that has the focus
    event.preventDefault();
    give(file);
  });
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0; // dragging over a child leaves its parent
  document.addEventListener("dragenter", (event) => {
    if (hasFile(event)) curtain.hidden = ++depth === 0;
  });
  document.addEventListener("dragleave", (event) => {
    if (hasFile(event)) curtain.hidden = --depth <= 0;
  });
  document.addEventListener("dragover", (event) => {
    if (hasFile(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    depth = 0;
    curtain.hidden = true;
    if (!hasFile(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) give(event.dataTransfer.files[0]);
  });
}

/** The file as a Blob that the server takes. Throws `Problem`. */
export async function prepared(file) {
  if (file.type && !file.type.startsWith("image/")) {
    throw new Problem("This is not a picture. Choose a photo, for example a JPEG, PNG or WebP file.");
  }
  if (file.size <= MOST_BYTES && READ_BY_SERVER.has(file.type)) return file;
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = Math.min(1, LONGEST_EDGE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // JPEG has no transparency
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return await new Promise((done, failed) => {
      canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("too large"))), "image/jpeg", 0.92);
    });
  } catch {
    throw new Problem("Your browser cannot open this picture. Save it as JPEG or PNG and try again.");
  }
}

export async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}
