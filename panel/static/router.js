// Pages by the address's hash: #/trade, #/slot/BTC-5m. What is no page's name is the overview. Other hashes are not looked at.

import { set } from "./dom.js";

const PAGES = [...document.querySelectorAll(".page")].map((page) => page.dataset.page);
const UNDER = { slot: "trade" }; // pages that have no place of their own among the links

// -> {name, argument}
export function route(hash = location.hash) {
  const [, name, argument] = /^#\/([a-z]*)(?:\/([^/]+))?$/.exec(hash) ?? [];
  if (!PAGES.includes(name) || (name === "slot") !== Boolean(argument)) return { name: PAGES[0], argument: "" };
  try {
    return { name, argument: decodeURIComponent(argument ?? "") };
  } catch {
    return { name: PAGES[0], argument: "" }; // no text, such as %ff
  }
}

export const toSlot = (slot) => `#/slot/${encodeURIComponent(slot)}`;

function show() {
  const { name } = route();
  for (const page of document.querySelectorAll(".page")) set(page, "hidden", page.dataset.page === name ? null : "");
  for (const link of document.querySelectorAll("#pages a")) {
    set(link, "aria-current", link.hash === `#/${UNDER[name] ?? name}` ? "page" : null);
  }
}

// onShown: another page is shown.
export function startRouter(onShown) {
  show();
  addEventListener("hashchange", () => {
    show();
    scrollTo(0, 0);
    onShown();
  });
  // The link for keyboards that leads past the strip is no page.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector("#main").focus();
  });
}
