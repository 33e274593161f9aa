// Keys of the blind comparison: 1, 2, 3, 4 choose, u takes the last choice back.
(function () {
  "use strict";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input, select, textarea")) return;
    const button = document.querySelector(`#judging button[data-key="${CSS.escape(event.key)}"]`);
    if (button === null || document.querySelector("#judging .htmx-request")) return;
    event.preventDefault();
    button.click();
  });
})();
