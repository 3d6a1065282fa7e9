// The buttons that copy, the colours and the language of programs, and the form that tries a request. Everything else works
// without this script.
"use strict";

// Open programs in the language that the reader opened last.
const choices = [...document.querySelectorAll("details[data-choice]")];
const choose = (language) => {
  for (const each of choices) {
    if (each.dataset.choice === language) each.open = true; // this closes the others with the same name
  }
};
if (choices.length) choose(recall("language"));
for (const each of choices) {
  each.querySelector("summary").addEventListener("click", () => {
    if (each.open) return; // it is about to be closed
    const place = each.getBoundingClientRect().top;
    keep("language", each.dataset.choice);
    choose(each.dataset.choice);
    each.open = false; // the click opens it
    scrollBy(0, each.getBoundingClientRect().top - place);
  });
}

// Colour comments, strings and keywords. Ranges leave the text of the program as it is, to be copied and filled in.
const TOKEN = /(?<comment>(?<![:\w"'$?&])(?:\/\/|# )[^\n]*)|(?<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?<keyword>\b(?:async|await|begin|catch|class|const|curl|def|do|echo|else|end|except|for|foreach|from|function|if|import|in|let|new|not|or|pass|puts|raise|range|rescue|require|return|throw|try|unless|with)\b)/g;
function colour() {
  if (!CSS.highlights) return;
  const ranges = { comment: [], string: [], keyword: [] };
  for (const code of document.querySelectorAll("code[data-language]")) {
    for (const found of code.textContent.matchAll(TOKEN)) {
      const [kind] = Object.entries(found.groups).find(([, text]) => text);
      const range = new Range();
      range.setStart(code.firstChild, found.index);
      range.setEnd(code.firstChild, found.index + found[0].length);
      ranges[kind].push(range);
    }
  }
  for (const [kind, found] of Object.entries(ranges)) CSS.highlights.set(kind, new Highlight(...found));
}

for (const pre of document.querySelectorAll("pre[data-copy]")) {
  const code = pre.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  const says = document.createTextNode("Copy");
  const what = document.createElement("span");
  what.className = "hidden";
  what.textContent = ` ${pre.dataset.copy}`;
  button.append(says, what);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      says.data = "Copied";
    } catch {
      // Only pages over HTTPS may write to the clipboard. Select the text instead, ready for Ctrl+C.
      getSelection().selectAllChildren(code);
      says.data = "Selected";
    }
    setTimeout(() => { says.data = "Copy"; }, 2000);
  });
  // Outside the <pre>, which scrolls: so the button neither covers the code nor scrolls away with it.
  const box = document.createElement("div");
  box.className = "copyable";
  pre.replaceWith(box);
  box.append(pre, button);
}
colour(); // after the programs were moved, because moving one loses its ranges

const form = document.querySelector("form[data-try-it]");
if (form) {
  const show = (name, text) => { form.querySelector(`[data-answer-${name}]`).textContent = text; };

  // Fill the key into the examples, so that they can be pasted and run unchanged.
  const key = form.querySelector('[data-parameter="key"]');
  const examples = [...document.querySelectorAll("code[data-language]")].map((code) => [code, code.textContent]);
  key.addEventListener("input", () => {
    for (const [code, text] of examples) {
      const pasted = key.value.trim();
      code.textContent = /^[\w-]+$/.test(pasted) ? text.replace("YOUR_API_KEY", pasted) : text;
    }
    colour();
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams({ action: form.dataset.action });
    for (const input of form.querySelectorAll("[data-parameter]")) {
      if (input.value.trim()) body.set(input.dataset.parameter, input.value.trim());
    }
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const response = await fetch(form.dataset.tryIt, { method: "POST", body, credentials: "omit" });
      const text = await response.text();
      show("status", String(response.status));
      show("headers", [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n"));
      show("body", pretty(text));
    } catch (error) {
      show("status", `no answer: ${error.message}`);
      show("headers", "");
      show("body", "");
    } finally {
      button.disabled = false;
      form.querySelector("[data-answer]").hidden = false;
    }
  });
  // The browser may keep this page for its back button. Take the key out of it first.
  addEventListener("pagehide", () => {
    key.value = "";
    for (const [code, text] of examples) code.textContent = text;
    colour();
    for (const name of ["status", "headers", "body"]) show(name, "");
    form.querySelector("[data-answer]").hidden = true;
  });
  form.hidden = false;
}

// A browser may forbid a page to store anything.
function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It is remembered on this page alone.
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
