// A job while it runs: its log as it grows, its loss on a chart that can be zoomed.
(function () {
  "use strict";
  const curves = document.getElementById("job-curves");
  const log = document.getElementById("job-events");
  if (!curves || !log) return;
  const MOST_LINES = 200;
  let plot = null;
  let waiting = false;

  // A canvas needs the colour itself, not light-dark(...).
  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  async function columns() {
    try {
      const response = await fetch(curves.dataset.address);
      return response.ok ? await response.json() : null;
    } catch {
      return null; // the server is away: what was drawn is there
    }
  }

  // Only the loss, because one chart has one axis; the accuracy stays as the server drew it.
  async function draw() {
    const data = await columns();
    if (data === null || data.steps.length < 2) return;
    const series = [data.steps, data.train_loss, data.valid_loss];
    if (plot !== null) {
      plot.setData(series);
      return;
    }
    const holder = document.createElement("div");
    holder.className = "card live-plot";
    const title = document.createElement("h3");
    title.className = "first";
    title.textContent = curves.dataset.loss;
    holder.append(title);
    const drawn = curves.querySelector("figure");
    if (drawn) drawn.replaceWith(holder);
    else curves.replaceChildren(holder);
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    plot = new window.uPlot(
      {
        width: holder.clientWidth - 36,
        height: 260,
        scales: { x: { time: false } },
        axes: [{ ...axis, label: curves.dataset.steps }, axis],
        series: [
          { label: curves.dataset.steps },
          { label: curves.dataset.train, stroke: colour("--c0"), width: 2 },
          { label: curves.dataset.validation, stroke: colour("--c1"), width: 2, dash: [6, 4], spanGaps: true, points: { show: true } },
        ],
      },
      series,
      holder,
    );
    new ResizeObserver(() => plot.setSize({ width: holder.clientWidth - 36, height: 260 })).observe(holder);
  }

  function later() {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      draw();
    }, 1000);
  }

  function add(event) {
    const line = document.createElement("li");
    line.className = event.level;
    const time = document.createElement("time");
    time.textContent = new Date(event.created_at * 1000).toISOString().slice(0, 19).replace("T", " ");
    const message = document.createElement("span");
    message.textContent = event.message;
    line.append(time, " ", message);
    log.prepend(line);
    while (log.children.length > MOST_LINES) log.lastElementChild.remove();
    if (event.type === "metrics") later();
  }

  draw();
  if (!log.dataset.live) return;
  const source = new EventSource(`${log.dataset.address}?after=${encodeURIComponent(log.dataset.after)}`);
  source.addEventListener("message", (message) => {
    if (message.data === "[DONE]") {
      source.close();
      location.reload();
      return;
    }
    add(JSON.parse(message.data));
  });
  window.addEventListener("pagehide", () => source.close());
})();
