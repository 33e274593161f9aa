// The pipeline while it runs: status, steps, log and curves, as the server tells of them.
(function () {
  "use strict";
  const POLL_MS = 2000;
  const FAILURES = 3;

  // Curves

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // light-dark() in a variable is not resolved by getPropertyValue; an element's own colour is.
  function resolved(name) {
    const probe = document.createElement("span");
    probe.hidden = true;
    probe.className = name;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value || colour("--ink");
  }

  function plotOf(figure, points) {
    const box = figure.querySelector(".plot");
    const quiet = resolved("quiet");
    const axis = { stroke: quiet, grid: { stroke: resolved("line-colour"), width: 1 }, ticks: { show: false } };
    const series = (label, name, dash) => ({
      label, stroke: resolved(name), width: 2, dash, spanGaps: true,
      points: { show: Boolean(dash), size: 6 },
      value: (_plot, value) => (value == null ? "–" : value.toFixed(3)),
    });
    box.replaceChildren();
    const options = {
      width: Math.max(box.clientWidth, 240), height: 230,
      scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 52 }],
      series: [
        { label: figure.dataset.step },
        series(figure.dataset.train, "curve-train"),
        ...(figure.dataset.valid ? [series(figure.dataset.valid, "curve-valid", [6, 5])] : []),
      ],
    };
    const plot = new uPlot(options, points, box);
    new ResizeObserver(() => plot.setSize({ width: Math.max(box.clientWidth, 240), height: 230 })).observe(box);
    return plot;
  }

  const columns = (data, figure) => [data.steps, data.train_loss, ...(figure.dataset.valid ? [data.valid_loss] : [])];

  async function draw(figure) {
    let points;
    try {
      const reply = await fetch(figure.dataset.curves);
      if (!reply.ok) return null;
      points = columns(await reply.json(), figure);
    } catch {
      return null; // the server is away: the drawing that the page came with is there
    }
    if (!points[0].length) return null;
    const plot = plotOf(figure, points);
    figure.plot = plot;
    return plot;
  }

  // A resumed training repeats steps after its checkpoint: the newest figures of a step count.
  function append(plot, data) {
    const [steps, train, valid] = plot.data.map((column) => Array.from(column)); // valid may be missing
    const first = data.steps[0];
    while (steps.length && steps[steps.length - 1] >= first) {
      steps.pop();
      train.pop();
      if (valid) valid.pop();
    }
    const more = valid ? [valid.concat(data.valid_loss)] : [];
    plot.setData([steps.concat(data.steps), train.concat(data.train_loss), ...more]);
  }

  document.querySelectorAll("figure[data-curves]").forEach((figure) => draw(figure));

  // Events

  const follow = document.getElementById("follow");
  if (!follow) return;
  let position = follow.dataset.position;
  let failures = 0;
  let leaving = false;

  // Nothing may begin the load of the page once more while it lasts.
  function reload() {
    if (leaving) return;
    leaving = true;
    location.reload();
  }

  function put(id, html) {
    const element = document.getElementById(id);
    if (element && element.lastHtml !== html) {
      element.lastHtml = html;
      element.innerHTML = html;
    }
  }

  const handlers = {
    begun: reload,
    end: reload,
    status(data) {
      put("run-status", data.status);
      put("run-steps", data.steps);
    },
    log(html) {
      const log = document.getElementById("run-log");
      if (!log) return;
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      log.insertAdjacentHTML("beforeend", html);
      while (log.children.length > 500) log.firstElementChild.remove();
      if (atEnd) log.scrollTop = log.scrollHeight;
    },
    points(data) {
      const figure = document.querySelector("#run-curve figure");
      if (!figure || data.reset || !figure.plot) {
        fetch(location.href, { headers: { accept: "text/html" } }).then((reply) => reply.text()).then((text) => {
          const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("#run-curve figure");
          if (!fresh) return;
          document.getElementById("run-curve").replaceChildren(document.importNode(fresh, true));
          draw(document.querySelector("#run-curve figure"));
        }).catch(() => {}); // the server is away; the next points try again
        return;
      }
      append(figure.plot, data);
    },
  };

  function take(kind, id, data) {
    if (id) position = id;
    handlers[kind](data);
  }

  const log = document.getElementById("run-log");
  if (log) log.scrollTop = log.scrollHeight;

  async function poll() {
    try {
      const reply = await fetch(`${follow.dataset.poll}?position=${encodeURIComponent(position)}`);
      if (reply.ok) for (const each of await reply.json()) take(each.event, each.id, each.data);
    } catch {
      // The server is away; the next attempt tells.
    }
    if (!leaving) setTimeout(poll, POLL_MS);
  }

  function listen() {
    const source = new EventSource(`${follow.dataset.events}?position=${encodeURIComponent(position)}`);
    for (const kind of Object.keys(handlers)) {
      source.addEventListener(kind, (event) => {
        failures = 0;
        take(kind, event.lastEventId, JSON.parse(event.data));
      });
    }
    source.addEventListener("open", () => { failures = 0; });
    source.addEventListener("error", () => {
      failures += 1;
      if (failures < FAILURES && source.readyState !== EventSource.CLOSED) return;
      source.close();
      poll();
    });
    addEventListener("pagehide", () => source.close());
  }

  listen();
})();
