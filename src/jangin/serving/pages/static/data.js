// The room of data: choices submit themselves, a chunk and its box light up.
document.documentElement.classList.add("scripted");

document.addEventListener("change", (event) => {
  const control = event.target;
  if (control.matches("select[data-submit]")) control.form.requestSubmit();
});

function light(event, lit) {
  const part = event.target.closest?.("[data-mark]");
  if (!part) return;
  for (const other of document.querySelectorAll("[data-mark]")) {
    other.classList.toggle("lit", lit && other.dataset.mark === part.dataset.mark);
  }
}
document.addEventListener("pointerover", (event) => light(event, true));
document.addEventListener("pointerout", (event) => light(event, false));
document.addEventListener("focusin", (event) => light(event, true));

document.addEventListener("click", (event) => {
  const box = event.target.closest?.(".boxes [data-mark]");
  if (!box) return;
  const entry = document.querySelector(`.chunks [data-mark="${CSS.escape(box.dataset.mark)}"]`);
  entry?.scrollIntoView({ block: "center" });
  entry?.focus({ preventScroll: true });
});

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const link = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (link) document.querySelector(`a[rel="${link}"]`)?.click();
});
