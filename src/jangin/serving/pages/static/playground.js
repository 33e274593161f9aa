// The playground: the same question to one to three models, their answers as they arrive.
(function () {
  "use strict";
  const root = document.getElementById("playground");
  if (!root) return;
  const text = root.dataset;
  const form = document.getElementById("talk");
  const columns = document.getElementById("columns");
  const question = document.getElementById("question");
  const stop = document.getElementById("stop");
  const send = document.getElementById("send");
  const blind = document.getElementById("blind");
  const reveal = document.getElementById("reveal");
  const agreement = document.getElementById("agreement");
  const history = document.getElementById("history"); // only where a model was taught single questions
  const boxes = [...form.querySelectorAll("input[name=chosen]")];
  const KEY = "jangin-playground";
  let turns = {}; // {id of a model: its conversation}
  let order = []; // ids of the columns; drawn again for each blind conversation
  let hidden = false;
  let stopping = null;

  document.documentElement.classList.add("script");

  function element(name, className, content) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (content !== undefined) node.textContent = content;
    return node;
  }

  const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const boxOf = (id) => boxes.find((box) => box.value === id);
  const labelOf = (id) => (boxOf(id) ? boxOf(id).dataset.label : id);

  function remember() {
    try {
      sessionStorage.setItem(KEY, JSON.stringify({ turns, order, hidden, chosen: chosen() }));
    } catch {
      // A full storage only means that a refresh begins a new conversation.
    }
  }

  function restore() {
    let kept = {};
    try {
      kept = JSON.parse(sessionStorage.getItem(KEY) || "{}");
    } catch {
      kept = {};
    }
    const wanted = (kept.chosen || []).filter(boxOf);
    if (wanted.length === 0) wanted.push(...boxes.filter((box) => "first" in box.dataset).map((box) => box.value));
    wanted.forEach((id) => { boxOf(id).checked = true; });
    turns = kept.turns || {};
    hidden = Boolean(kept.hidden);
    blind.checked = hidden;
    order = (kept.order || []).filter((id) => wanted.includes(id));
    arrange();
  }

  // Columns for the chosen models; in a blind conversation in a random order without names.
  function arrange() {
    const ids = chosen();
    order = order.filter((id) => ids.includes(id));
    const fresh = ids.filter((id) => !order.includes(id));
    if (hidden) fresh.sort(() => Math.random() - 0.5);
    order = hidden ? [...order, ...fresh] : ids;
    columns.replaceChildren(...order.map(column));
    columns.dataset.count = order.length;
    reveal.hidden = !(hidden && order.some((id) => (turns[id] || []).length));
    if (history) history.hidden = !ids.some((id) => boxOf(id).dataset.single);
    compareAnswers();
    boxes.forEach((box) => { box.disabled = !box.checked && ids.length >= Number(text.most); });
    remember();
  }

  // Says where the last answers to one question differ, and which of them was taught.
  function compareAnswers() {
    const said = order.map((id) => turns[id] || []).filter((each) => each.length > 1 && !each.at(-1).failed);
    const bare = (content) => content.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
    const several = (values) => new Set(values).size > 1;
    const asked = said.map((each) => each.at(-2).content);
    const differ = said.length > 1 && !several(asked) && several(said.map((each) => bare(each.at(-1).content)));
    const status = (id) => (turns[id] && turns[id].length ? turns[id].at(-1).status : "");
    const known = order.filter((id) => status(id));
    const taught = known.filter((id) => status(id) === "taught");
    let note = text.differ;
    if (known.some((id) => status(id) === "unsure")) note = text.differ;
    else if (taught.length === 1) note = text.differOne.replace("{name}", labelOf(taught[0]));
    else if (known.length && !taught.length) note = text.differNone;
    agreement.hidden = hidden || !differ;
    agreement.textContent = agreement.hidden ? "" : note;
  }

  function column(id, index) {
    const part = element("section", "card talk-column");
    part.dataset.model = id;
    const name = hidden ? `${text.hidden} ${"ABC"[index]}` : labelOf(id);
    part.append(element("h2", "first", name));
    const said = turns[id] || [];
    said.forEach((turn, at) => part.append(bubble(id, said, at, turn)));
    return part;
  }

  function bubble(id, said, at, turn) {
    const part = element("div", `turn ${turn.role}`);
    part.append(element("p", "passage", turn.content || (turn.role === "assistant" ? text.noAnswer : "")));
    if (turn.note) part.append(element("p", "quiet", turn.note));
    const left = { turns: text.leftTurns, system: text.leftSystem };
    if (!hidden) (turn.left || []).forEach((name) => part.append(element("p", "quiet", left[name])));
    if (turn.role === "assistant" && !turn.failed) {
      if (turn.source) part.append(sourcePart(turn.source));
      if (text.maySave) part.append(saving(id, said.slice(0, at), turn.source));
    }
    return part;
  }

  function sourcePart(html) {
    const part = element("div", "source-part");
    part.innerHTML = html; // a template of ours, every text in it escaped
    if (!hidden) requestAnimationFrame(() => window.htmx && window.htmx.process(part));
    part.hidden = hidden;
    return part;
  }

  // What the form is filled with: the answer that was taught, else the passage, never what was said.
  function rightOne(source) {
    const holder = document.createElement("template");
    holder.innerHTML = source || "";
    const known = holder.content.querySelector("[data-right]");
    return known ? [known.dataset.right, known.dataset.rightFrom] : ["", "nothing"];
  }

  // Buttons that keep a question with its right answer among the project's own rows.
  function saving(id, before, source) {
    const part = element("div", "saving");
    const row = element("div", "row");
    for (const kind of ["question", "example"]) {
      const button = element("button", "plain", text[kind]);
      button.type = "button";
      button.addEventListener("click", () => edit(kind));
      row.append(button);
    }
    part.append(row);

    function edit(kind) {
      const box = element("div", "stack save-form");
      const label = element("label", "", text.right);
      const input = element("textarea");
      const [right, from] = rightOne(source);
      input.value = right;
      input.rows = 2;
      label.append(input);
      const hint = element("p", "quiet", { taught: text.fromTaught, passage: text.fromPassage, nothing: text.fromNothing }[from]);
      const who = element("label", "", text.name);
      const name = element("input");
      name.maxLength = 60;
      name.autocomplete = "name";
      who.append(name);
      who.hidden = Boolean(text.named);
      const keep = element("button", "primary", text.save);
      keep.type = "button";
      const cancel = element("button", "plain", text.cancel);
      cancel.type = "button";
      const buttons = element("div", "row");
      buttons.append(keep, cancel);
      box.append(hint, label, who, buttons);
      part.replaceChildren(element("p", "quiet", text[kind]), box);
      input.focus({ preventScroll: true });
      box.scrollIntoView({ block: "center" });
      cancel.addEventListener("click", () => part.replaceWith(saving(id, before, source)));
      keep.addEventListener("click", async () => {
        const empty = !input.value.trim() ? input : !text.named && !name.value.trim() ? name : null;
        if (empty) return empty.focus();
        keep.disabled = true;
        if (!text.named && !(await signed(name.value.trim()))) return void (keep.disabled = false);
        const result = await saveRow(kind, input.value);
        if (result !== null) part.replaceChildren(result);
        else keep.disabled = false;
        return undefined;
      });
    }

    // The name that the row is signed with; asked once, as for a review.
    async function signed(name) {
      const response = await post("/name", new URLSearchParams({ name, then: "/playground" }));
      if (response !== null) text.named = name;
      return response !== null;
    }

    async function saveRow(kind, right) {
      const body = new URLSearchParams({
        kind, right, model: id, turns: JSON.stringify(plain(before)),
      });
      const response = await post("/playground/save", body);
      if (response === null) return null;
      const node = element("div", "save-result");
      node.innerHTML = await response.text();
      window.htmx.process(node);
      document.body.dispatchEvent(new Event("saved"));
      return node;
    }
    return part;
  }

  const plain = (said) => said.map(({ role, content }) => ({ role, content }));

  // The response of a POST; null where it failed, after saying why.
  async function post(address, body, options) {
    const headers = { ...window.jangin.headers(), "HX-Request": "true" };
    if (typeof body === "string") headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(address, { method: "POST", headers, body, ...options });
    } catch (error) {
      if (error.name !== "AbortError") window.jangin.notify(document.body.dataset.offline, "bad");
      return null;
    }
    if (response.ok) return response;
    const holder = element("div");
    holder.innerHTML = await response.text();
    window.jangin.notify(holder.textContent.trim(), "bad");
    return null;
  }

  function settings() {
    const number = (name) => Number(form.elements[name].value);
    const given = (name) => (form.elements[name].value === "" ? null : number(name));
    return {
      system: form.elements.system.value,
      history: history && history.querySelector("input").checked ? "all" : "auto",
      temperature: number("temperature"),
      top_p: number("top_p"),
      max_tokens: given("max_tokens"),
      seed: given("seed"),
    };
  }

  async function ask(id, asked, signal) {
    const said = (turns[id] = [...(turns[id] || []).filter((turn) => !turn.failed), { role: "user", content: asked }]);
    const turn = { role: "assistant", content: "" };
    const part = columns.querySelector(`[data-model="${CSS.escape(id)}"]`);
    part.append(bubble(id, said, said.length - 1, said.at(-1)));
    const waiting = element("div", "turn assistant");
    const shown = element("p", "passage", text.thinking);
    waiting.append(shown);
    part.append(waiting);
    waiting.scrollIntoView({ block: "center" });
    try {
      const body = JSON.stringify({ model: id, turns: plain(said), ...settings() });
      const response = await fetch("/playground/answer", {
        method: "POST", signal, body,
        headers: { ...window.jangin.headers(), "content-type": "application/json", "HX-Request": "true" },
      });
      if (!response.ok) throw new Error(await reason(response));
      const known = said.flatMap((each) => each.left || []);
      turn.left = (response.headers.get("x-left-out") || "").split(" ").filter((name) => name && !known.includes(name));
      await read(response, (content) => {
        turn.content = content;
        shown.textContent = content;
      });
    } catch (error) {
      if (error.name === "AbortError") turn.note = text.stopped;
      else {
        turn.failed = true;
        turn.note = error.message;
      }
    }
    said.push(turn);
    if (!turn.failed && boxOf(id).dataset.tuned) {
      turn.source = await sourceOf(id, asked, turn.content);
      turn.status = (turn.source.match(/data-status="(\w+)"/) || [])[1];
    }
    const answered = bubble(id, said, said.length - 1, turn);
    waiting.replaceWith(answered);
    answered.scrollIntoView({ block: "nearest" });
    remember();
  }

  async function reason(response) {
    const content = await response.text();
    try {
      return JSON.parse(content).error.message;
    } catch {
      const holder = element("div");
      holder.innerHTML = content;
      return holder.textContent.trim();
    }
  }

  // Server-sent events of a POST, which EventSource cannot send.
  async function read(response, put) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let content = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const data = JSON.parse(line.slice(6));
        if (data.error) throw new Error(data.error.message);
        const delta = data.choices.length ? data.choices[0].delta : {};
        if (data.whole !== undefined) put((content = data.whole));
        else if (delta.content) put((content += delta.content));
      }
    }
  }

  async function sourceOf(id, asked, answer) {
    const response = await post("/playground/source", JSON.stringify({ model: id, question: asked, answer }));
    return response === null ? "" : (await response.text()).trim();
  }

  async function submit() {
    const asked = question.value.trim();
    if (!asked || stopping) return;
    if (chosen().length === 0) return;
    stopping = new AbortController();
    question.value = "";
    send.hidden = true;
    stop.hidden = false;
    columns.setAttribute("aria-busy", "true");
    await Promise.all(order.map((id) => ask(id, asked, stopping.signal)));
    columns.setAttribute("aria-busy", "false");
    stopping = null;
    send.hidden = false;
    stop.hidden = true;
    reveal.hidden = !hidden;
    compareAnswers();
    question.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  stop.addEventListener("click", () => stopping && stopping.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && stopping) stopping.abort();
  });
  boxes.forEach((box) => box.addEventListener("change", () => {
    if (chosen().length === 0) box.checked = true;
    arrange();
  }));
  document.getElementById("new").addEventListener("click", () => {
    turns = {};
    order = [];
    hidden = blind.checked;
    arrange();
    question.focus();
  });
  blind.addEventListener("change", () => {
    hidden = blind.checked;
    turns = {};
    order = [];
    arrange();
  });
  reveal.addEventListener("click", () => {
    hidden = false;
    blind.checked = false;
    const kept = order;
    arrange();
    order = kept;
  });
  restore();
})();
