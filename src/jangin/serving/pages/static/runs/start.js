// Starting a project: files that are dropped, choices that belong together, an editor with lines.
(function () {
  "use strict";

  // Uploads: one request per file, streamed by the browser, one after another.

  function line(list, name) {
    const item = document.createElement("li");
    const label = document.createElement("span");
    label.textContent = name;
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", name);
    const state = document.createElement("span");
    state.className = "quiet";
    item.append(label, bar, state);
    list.append(item);
    return { item, bar, state };
  }

  function send(zone, file, shown) {
    return new Promise((resolve) => {
      const end = (text, kind) => {
        shown.bar.remove();
        shown.state.textContent = text;
        shown.state.className = kind;
        resolve(kind === "good");
      };
      const most = Number(zone.dataset.most);
      if (most && file.size > most) return end(zone.dataset.tooLarge, "bad");
      const request = new XMLHttpRequest();
      const query = new URLSearchParams({ name: file.name, kind: zone.dataset.kind });
      request.open("POST", `${zone.dataset.upload}?${query}`);
      for (const [name, value] of Object.entries(window.jangin.headers())) request.setRequestHeader(name, value);
      request.setRequestHeader("accept", "application/json");
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) shown.bar.value = event.loaded / event.total;
      });
      request.addEventListener("load", () => {
        if (request.status === 201) return end(zone.dataset.done, "good");
        if (request.status === 200) { // a lock file, or one of a file manager
          shown.item.remove();
          return resolve(true);
        }
        let text = zone.dataset.failed;
        try { text = JSON.parse(request.responseText).error.message; } catch { /* no sentence came */ }
        return end(text, "bad");
      });
      request.addEventListener("error", () => end(zone.dataset.failed, "bad"));
      request.send(file);
      return undefined;
    });
  }

  async function take(zone, files) {
    const list = zone.querySelector(".uploads");
    const waiting = Array.from(files, (file) => [file, line(list, file.name)]);
    let all = true;
    for (const [file, shown] of waiting) all = (await send(zone, file, shown)) && all;
    if (!all) return refresh();
    if (waiting.length) {
      const form = document.getElementById("choices");
      if (form) sessionStorage.setItem("choices", JSON.stringify([...new FormData(form)]));
      location.reload();
    }
    return undefined;
  }

  // After a refusal the messages stay, and the rest of the page shows what is there by now.
  async function refresh() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["files", "onward"]) {
      const [old, now] = [document.getElementById(id), page.getElementById(id)];
      if (old && now) old.replaceWith(document.adoptNode(now));
    }
  }

  for (const zone of document.querySelectorAll(".drop")) {
    const input = zone.querySelector("input[type=file]");
    input.addEventListener("change", () => take(zone, input.files));
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      take(zone, event.dataTransfer.files);
    });
  }

  // Choices: what was filled in survives an upload; fields of other choices are hidden.

  const choices = document.getElementById("choices");
  if (choices) {
    const kept = sessionStorage.getItem("choices");
    sessionStorage.removeItem("choices");
    for (const [name, value] of kept ? JSON.parse(kept) : []) {
      const field = choices.elements.namedItem(name);
      if (name !== "csrf" && field && value) field.value = value;
    }
    const show = () => {
      const chosen = new FormData(choices);
      for (const inner of choices.querySelectorAll("[data-for]")) {
        const [name, value] = inner.dataset.for.split("=");
        inner.hidden = chosen.get(name) !== value;
      }
    };
    choices.addEventListener("change", show);
    show();
  }

  // The editor: numbers beside the lines, marks where something is wrong.

  const editor = document.getElementById("editor");
  if (!editor) return;
  const gutter = document.querySelector(".editor .lines");
  const problems = document.getElementById("problems");
  const number = () => {
    const wrong = new Set(Array.from(problems.querySelectorAll("[data-line]"), (item) => Number(item.dataset.line)));
    const count = editor.value.split("\n").length;
    gutter.replaceChildren();
    for (let index = 1; index <= count; index += 1) {
      const mark = document.createElement("span");
      mark.textContent = index;
      if (wrong.has(index)) mark.className = "wrong";
      gutter.append(mark);
    }
    gutter.scrollTop = editor.scrollTop;
  };
  editor.addEventListener("input", number);
  editor.addEventListener("scroll", () => { gutter.scrollTop = editor.scrollTop; });
  problems.addEventListener("htmx:afterSwap", number);
  problems.addEventListener("click", (event) => {
    const link = event.target.closest("[data-to-line]");
    if (!link) return;
    event.preventDefault();
    const lines = editor.value.split("\n");
    const start = lines.slice(0, link.dataset.toLine - 1).join("\n").length + (link.dataset.toLine > 1 ? 1 : 0);
    editor.focus();
    editor.setSelectionRange(start, start + lines[link.dataset.toLine - 1].length);
    const height = editor.scrollHeight / lines.length;
    editor.scrollTop = Math.max(0, (link.dataset.toLine - 5) * height);
  });
  // Tab leaves the field, as everywhere; two spaces begin a block.
  number();
})();
