// Copying, and the box that tries a request: all else works without this file.
"use strict";

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
      // Browsers give the clipboard to secure pages only: select the text, so that a key press copies it.
      getSelection().selectAllChildren(code);
      says.data = "Selected";
    }
    setTimeout(() => { says.data = "Copy"; }, 2000);
  });
  // Beside what scrolls, so that it neither covers the code nor goes away with it.
  const box = document.createElement("div");
  box.className = "copyable";
  pre.replaceWith(box);
  box.append(pre, button);
}

const form = document.querySelector("form[data-try-it]");
if (form) {
  const show = (name, text) => { form.querySelector(`[data-answer-${name}]`).textContent = text; };

  // The examples with the key in them can be pasted as they are.
  const key = form.querySelector('[data-parameter="key"]');
  const examples = [...document.querySelectorAll("code[data-language]")].map((code) => [code, code.textContent]);
  key.addEventListener("input", () => {
    for (const [code, text] of examples) {
      const pasted = key.value.trim();
      code.textContent = /^[\w-]+$/.test(pasted) ? text.replace("YOUR_API_KEY", pasted) : text;
    }
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
      show("status", `none: ${error.message}`);
      show("headers", "");
      show("body", "");
    } finally {
      button.disabled = false;
      form.querySelector("[data-answer]").hidden = false;
    }
  });
  // A browser may keep the page as it was, to go back to it: without the key.
  addEventListener("pagehide", () => {
    key.value = "";
    for (const [code, text] of examples) code.textContent = text;
    for (const name of ["status", "headers", "body"]) show(name, "");
    form.querySelector("[data-answer]").hidden = true;
  });
  form.hidden = false;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
