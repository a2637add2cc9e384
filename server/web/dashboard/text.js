// Numbers and times as people read them, and elements made of text. Pure but for `element`.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const tiny = new Intl.NumberFormat("en", { notation: "scientific", maximumSignificantDigits: 3 });

export const there = (value) => typeof value === "number" && Number.isFinite(value);

/** A measured number: four digits that mean something. */
export function number(value) {
  if (!there(value)) return "none yet";
  const size = Math.abs(value);
  if (size >= 10_000) return whole.format(value);
  return size !== 0 && size < 0.001 ? tiny.format(value).replace("E", "e") : short.format(value);
}

export const count = (value) => (there(value) ? whole.format(value) : "none yet");

export const percent = (value) => (there(value) ? `${short.format(Math.round(value * 1000) / 10)} %` : "none yet");

/** Bytes as 12.3 MB. */
export function size(bytes) {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  return `${short.format(bytes / 1000 ** power)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** Seconds as 0:07, 12:30 or 3:05:00. */
export function duration(seconds) {
  if (!there(seconds)) return "";
  const all = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Seconds since 1970 as a time of day here. */
export const clock = (time) => clockFormat.format(new Date(time * 1000));

/** The same, with the day in front if that is not today. */
export function when(time) {
  const date = new Date(time * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(time) : `${dayFormat.format(date)} ${clock(time)}`;
}

/** A setting's value as it is written. */
export const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** An element with attributes and children; texts are texts, never markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
