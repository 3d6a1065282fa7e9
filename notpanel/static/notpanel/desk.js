// The desk in the browser: one click settles one refill, nothing typed is lost, and keys do what buttons do.
// Every page works without this script.
"use strict";

const REST = 1000; // ms for which a page that has just appeared ignores clicks and keys, unless the pointer has moved
const MOVED = { mouse: 4, pen: 8, touch: 32 }; // pixels
const KEPT = 3600_000; // ms for which what was typed is kept
const PRESENCE = 15_000; // ms between two messages of "I am still looking at this"

// --- One click, one refill -----------------------------------------------------------------------------------------
// The second click of a double click hits whatever has appeared under the pointer meanwhile, so it is ignored.

let sending = false;
let clicked = JSON.parse(sessionStorage.getItem("desk.clicked")); // where and when something was last sent
let restsUntil = clicked && Date.now() - clicked.at < 30_000 ? Date.now() + REST : 0;

for (const type of ["pointermove", "pointerdown"]) {
  document.addEventListener(type, (event) => {
    const away = clicked ? Math.hypot(event.screenX - clicked.x, event.screenY - clicked.y) : Infinity;
    if (away > (MOVED[event.pointerType] ?? 4)) restsUntil = 0;
  }, true);
}

let pointer = { x: 0, y: 0 };
document.addEventListener("pointerdown", (event) => { pointer = { x: event.screenX, y: event.screenY }; }, true);

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (sending || Date.now() < restsUntil) {
    restsUntil = Date.now() + REST;
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  sending = true;
  clicked = { ...pointer, at: Date.now() };
  sessionStorage.setItem("desk.clicked", JSON.stringify(clicked));
  if (form.closest("#desk-page") || form.id === "undo-form" && document.querySelector("#desk-page")) {
    event.preventDefault();
    send(form, event.submitter);
  } else {
    keepPlace(event.submitter);
    // The browser reads the pressed button's value after this.
    setTimeout(() => setDead(true));
  }
}, true);

document.addEventListener("keydown", (event) => {
  if (event.repeat && (event.key === "Enter" || event.key === " ") && event.target.closest("button")) {
    event.preventDefault();
  }
}, true);

addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  sending = false;
  setDead(false);
});

function setDead(dead) {
  for (const button of document.querySelectorAll("form[method=post] button, button[form]")) button.disabled = dead;
}

// --- The list stays where it was, and the focus goes on to the next row --------------------------------------------

function keepPlace(button) {
  const row = button?.closest("#result_list tr");
  if (!row) return;
  const index = [...document.querySelectorAll("#result_list .data-row")].indexOf(row);
  const place = { path: location.pathname + location.search, index, y: scrollY };
  sessionStorage.setItem("desk.place", JSON.stringify(place));
}

addEventListener("DOMContentLoaded", () => {
  const place = JSON.parse(sessionStorage.getItem("desk.place"));
  sessionStorage.removeItem("desk.place");
  if (place?.path !== location.pathname + location.search) return;
  scrollTo({ top: place.y, behavior: "instant" });
  const rows = document.querySelectorAll("#result_list .data-row");
  const row = rows[Math.min(place.index, rows.length - 1)];
  row?.querySelector(".desk-buttons :is(button, a)")?.focus({ preventScroll: true });
});

// The list's template calls this when it has opened its filters.
function focusFilters() {
  const fields = ":is(input, select, [tabindex]):not([type=hidden], [tabindex='-1'])";
  document.querySelector(`#changelist-filter ${fields}`)?.focus();
}

// --- A refill's page: forms are sent and the next refill is shown without leaving the page --------------------------

let fetched = null; // the next refill's page: {url, text}

async function send(form, button) {
  const body = new FormData(form, button);
  const before = document.querySelector("#desk-page");
  setDead(true);
  if (form.dataset.goesOn !== undefined && !button?.hasAttribute("formaction") && fetched) {
    show(fetched.text, null);
    document.querySelector("#desk-page").inert = true;
  }
  try {
    const response = await fetch(button?.getAttribute("formaction") || form.action, { method: "POST", body });
    const text = await response.text();
    if (!show(text, response.url)) {
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      location.assign(response.url); // the session has ended: sign in. What was typed is kept.
    }
  } catch (error) {
    document.querySelector("#desk-page").replaceWith(before);
    say(`No answer came: ${error.message}. What you typed is still here. Look whether the refill has changed, and try again.`);
  } finally {
    sending = false;
    setDead(false);
  }
}

// Put the page of ``text`` in place of this one, with the scroll position as it is. Return false if it is another kind.
function show(text, url) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.querySelector("#desk-page");
  if (!fresh) return false;
  document.querySelector("#desk-page").replaceWith(document.adoptNode(fresh));
  if (url === null) return true;
  const messages = page.querySelector("#desk-messages");
  if (messages) document.querySelector("#desk-messages").replaceWith(document.adoptNode(messages));
  document.title = page.title;
  const title = page.querySelector("h1");
  if (title) document.querySelector("h1").replaceChildren(...document.adoptNode(title).childNodes);
  if (url !== location.href) history.pushState(null, "", url);
  restsUntil = Date.now() + REST;
  arrive();
  document.querySelector("#desk-page").focus({ preventScroll: true });
  return true;
}

addEventListener("popstate", async () => {
  if (!document.querySelector("#desk-page")) return;
  const response = await fetch(location.href);
  if (!show(await response.text(), location.href)) location.reload();
});

function say(text) {
  const item = document.createElement("p");
  item.className = "desk-says";
  item.setAttribute("role", "alert");
  item.textContent = text;
  document.querySelector("#desk-messages").replaceChildren(item);
}

// --- Nothing typed is lost -------------------------------------------------------------------------------------------
// Text is kept in this tab until the server says that it has been saved.

const draftKey = (field) => `desk.draft:${field.closest("[data-draft]").dataset.draft}:${field.name}`;
const TYPED = "[data-draft] :is(textarea, select, input:not([type=hidden], [type=checkbox]))";

document.addEventListener("input", (event) => {
  if (!event.target.matches(TYPED)) return;
  sessionStorage.setItem(draftKey(event.target), JSON.stringify({ text: event.target.value, at: Date.now() }));
});

function restoreDrafts() {
  for (const { dataset } of document.querySelectorAll("[data-done]")) {
    for (const done of dataset.done.split(" ")) {
      for (const key of Object.keys(sessionStorage)) if (key.startsWith(`desk.draft:${done}:`)) sessionStorage.removeItem(key);
    }
  }
  for (const field of document.querySelectorAll(TYPED)) {
    const draft = JSON.parse(sessionStorage.getItem(draftKey(field)));
    if (draft && !field.value && Date.now() - draft.at < KEPT) field.value = draft.text;
  }
}

// --- Undo disappears when it is too late, and colleagues who look at the same refill are named -----------------------

function watchUndo() {
  for (const button of document.querySelectorAll("[data-undo-until]")) {
    setTimeout(() => button.remove(), Number(button.dataset.undoUntil) * 1000 - Date.now());
  }
}

async function tellPresence() {
  const page = document.querySelector("#desk-page[data-presence]");
  if (!page || document.hidden) return;
  const body = new URLSearchParams({ csrfmiddlewaretoken: page.dataset.token });
  const response = await fetch(page.dataset.presence, { method: "POST", body }).catch(() => null);
  if (!response?.ok || !response.headers.get("Content-Type").startsWith("application/json")) return;
  const { text } = await response.json();
  if (page.isConnected) document.querySelector("#desk-others").textContent = text;
}
setInterval(tellPresence, PRESENCE);

async function fetchNext() {
  fetched = null;
  const next = document.querySelector("#desk-page")?.dataset.next;
  if (!next) return;
  const response = await fetch(next).catch(() => null);
  if (response?.ok) fetched = { url: next, text: await response.text() };
}

function arrive() {
  restoreDrafts();
  watchUndo();
  fetchNext();
}
addEventListener("DOMContentLoaded", arrive);

// --- Keys --------------------------------------------------------------------------------------------------------------
// Each element names its own key: data-key="c", or "r 1" for two keys one after the other.

let begun = ""; // the first of two keys

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    begun = "";
    document.body.classList.remove("desk-choosing");
    if (event.target.matches("input, textarea, select")) event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog, [contenteditable]")) return;
  if (event.key === "?") return document.querySelector("#desk-keys")?.showModal();
  if (event.key === "k" && document.querySelector("#desk-page")) return history.back();
  const key = begun ? `${begun} ${event.key}` : event.key;
  const wanted = [...document.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key && element.checkVisibility());
  begun = "";
  document.body.classList.remove("desk-choosing");
  if (wanted) {
    event.preventDefault();
    if (wanted.matches("input, textarea, select")) wanted.focus();
    else wanted.click();
  } else if (!key.includes(" ") && document.querySelector(`[data-key^="${CSS.escape(key)} "]`)) {
    event.preventDefault();
    begun = key;
    document.body.classList.add("desk-choosing");
  }
});

// Enter in a field presses the button below it. Without this, it would press the first one of the form.
document.addEventListener("keydown", (event) => {
  const part = event.key === "Enter" && event.target.matches("input") && event.target.closest("[data-enter]");
  if (!part) return;
  event.preventDefault();
  part.querySelector(`button[value="${part.dataset.enter}"]`).click();
});

// The arrows lead from the box of a row to that of the next or the previous one. Space selects it.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.matches("#result_list .action-select")) return;
  const boxes = [...document.querySelectorAll("#result_list .action-select")];
  boxes[boxes.indexOf(event.target) + step]?.focus();
  event.preventDefault();
});

// What is pasted beside a field is searched for.
document.addEventListener("paste", (event) => {
  const search = document.querySelector("#searchbar, #desk-page [role=search] input");
  if (!search || event.target.closest("input:not([type=checkbox]), textarea, select, dialog, [contenteditable]")) return;
  event.preventDefault();
  search.value = event.clipboardData.getData("text").replace(/\s+/g, " ");
  search.form.requestSubmit();
});
