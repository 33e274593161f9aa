// What every page needs: notices that go away, and nothing else.
(function () {
  "use strict";
  const MOST_NOTICES = 3;
  const notices = document.getElementById("notices");

  new MutationObserver(() => {
    while (notices.children.length > MOST_NOTICES) notices.firstElementChild.remove();
  }).observe(notices, { childList: true });

  notices.addEventListener("click", (event) => {
    const notice = event.target.closest(".notice");
    if (notice) notice.remove();
  });

  document.body.addEventListener("htmx:sendError", () => {
    const notice = document.createElement("p");
    notice.className = "notice bad";
    notice.textContent = document.body.dataset.offline;
    notices.append(notice);
  });

  window.jangin = {
    // Show a notice; `kind` is good, unsure or bad.
    notify(text, kind) {
      const notice = document.createElement("p");
      notice.className = `notice ${kind || ""}`;
      notice.textContent = text;
      notices.append(notice);
      if (kind !== "bad") setTimeout(() => notice.remove(), 6000);
    },
    // The header that every request with fetch needs.
    headers() {
      return JSON.parse(document.body.getAttribute("hx-headers") || "{}");
    },
  };
})();
