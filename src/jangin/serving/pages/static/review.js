// Keys of the review page, its panels, and what is said after a decision was saved.
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");
  const row = () => document.getElementById("row");
  const panel = (name) => document.getElementById(name);
  const PANELS = ["edit", "reject", "flag"];

  function openPanel(name) {
    for (const other of PANELS) {
      const element = panel(other);
      if (!element) continue;
      element.open = other === name;
      const button = row().querySelector(`[data-panel="${other}"]`);
      if (button) button.setAttribute("aria-expanded", String(other === name));
    }
    const element = name && panel(name);
    const field = element && element.querySelector("[data-focus]");
    if (field) {
      field.focus();
      if (field.setSelectionRange) field.setSelectionRange(field.value.length, field.value.length);
      element.scrollIntoView({ block: "nearest" });
    }
  }

  function opened() {
    return PANELS.map(panel).find((element) => element && element.open);
  }

  function isTyping(element) {
    return element.matches("input:not([type=radio], [type=checkbox]), textarea, select");
  }

  // Keys of a Korean keyboard that was not switched: they carry the letter of the same key cap.
  const CAPS = { KeyA: "a", KeyE: "e", KeyR: "r", KeyD: "d", KeyS: "s", KeyJ: "j", KeyK: "k", KeyU: "u", KeyF: "f", KeyW: "w", KeyN: "n", KeyC: "c", KeyT: "t", KeyP: "p" };

  function keyOf(event) {
    return /^[a-z0-9/?]$/i.test(event.key) ? event.key.toLowerCase() : CAPS[event.code] || event.key;
  }

  document.addEventListener("keydown", (event) => {
    const help = document.getElementById("help");
    if (!row() || (help && help.open)) return;
    const target = event.target;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const form = target.closest && target.closest(".panel form");
      if (form) { event.preventDefault(); form.requestSubmit(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (opened()) { event.preventDefault(); openPanel(""); focusRow(); }
      return;
    }
    if (isTyping(target)) return;
    const key = keyOf(event);
    if (key === "?") { event.preventDefault(); if (help) help.showModal(); return; }
    if (key === "/") { event.preventDefault(); location.assign(`${row().dataset.queue}#words`); return; }
    const reject = panel("reject");
    const lettered = reject && reject.open && reject.querySelector(`[data-letter="${CSS.escape(key)}"]`);
    if (lettered) { event.preventDefault(); press(lettered); return; }
    const wanted = key === "j" ? "s" : key;
    const button = row().querySelector(`[data-key="${CSS.escape(wanted)}"]`);
    if (!button) return;
    event.preventDefault();
    press(button);
  });

  let busy = false;
  function press(button) {
    if (busy) return; // a key that is held down decides once
    button.click();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.panel) openPanel(panel(button.dataset.panel).open ? "" : button.dataset.panel);
    if (button.dataset.open) document.getElementById(button.dataset.open).showModal();
    if (button.hasAttribute("data-quote")) {
      const text = String(getSelection()).trim();
      const field = panel("edit").querySelector("[name=evidence]");
      if (text && !isTyping(document.activeElement)) field.value = text;
      else if (chosen) field.value = chosen;
      field.focus();
    }
  });

  // A click on a button clears the selection in some browsers, so the last one is kept.
  let chosen = "";
  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    const source = row() && row().querySelector(".source");
    if (source && selection.rangeCount && source.contains(selection.anchorNode)) chosen = String(selection).trim();
  });

  function focusRow() {
    const alert = row().querySelector("[role=alert]");
    const field = opened() && opened().querySelector("[data-focus]");
    const heading = document.getElementById("question");
    if (field) field.focus();
    else if (alert) { alert.tabIndex = -1; alert.focus(); }
    else if (heading) heading.focus({ preventScroll: true });
  }

  // The evidence on the page's picture is brought into view beside the claim.
  function showEvidence() {
    const source = row() && row().querySelector(".source");
    const mark = source && (source.querySelector(".evidence-box") || source.querySelector("mark.evidence"));
    if (!mark || getComputedStyle(source).position !== "sticky") return;
    const room = source.clientHeight;
    const top = mark.getBoundingClientRect().top - source.getBoundingClientRect().top + source.scrollTop;
    source.scrollTop = Math.max(0, top - room / 3);
  }

  function say() {
    // A live region speaks when its text changes after it is there.
    const saved = document.getElementById("saved");
    if (!saved || saved.classList.contains("quiet")) return;
    const text = saved.textContent;
    saved.textContent = "";
    setTimeout(() => { saved.textContent = text; }, 60);
  }

  // A tab that shows a row with a half-written edit asks before it is left.
  function isDirty() {
    const form = panel("edit") && panel("edit").querySelector("form");
    return Boolean(form) && [...form.querySelectorAll("textarea")].some((f) => f.value !== f.defaultValue);
  }
  let sending = false;
  addEventListener("beforeunload", (event) => { if (isDirty() && !sending) event.preventDefault(); });
  document.addEventListener("submit", () => { sending = true; });

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.closest("#row") && event.detail.requestConfig.verb === "post") busy = true;
  });
  document.addEventListener("htmx:afterRequest", () => { busy = false; sending = false; });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.elt.matches(".page-figure")) showEvidence();
    if (event.detail.elt.id !== "row") return;
    say();
    showEvidence();
    focusRow();
    if (opened()) opened().scrollIntoView({ block: "nearest" });
    else scrollTo(0, 0);
  });
  say();
  showEvidence();
  if (row() && document.getElementById("question")) focusRow();
  if (location.hash === "#words") {
    const field = document.getElementById("words");
    if (field) { field.closest("details").open = true; field.focus(); }
  }
})();
