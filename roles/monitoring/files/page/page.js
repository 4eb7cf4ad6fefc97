"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const times = Array.from({ length: data.points }, (_, index) => data.start + index * data.step);
  const end = times[times.length - 1];

  // --- units: what Grafana calls them, as people read them ---
  const digits = (value) => Number(value.toPrecision(3)).toString();
  const scaled = (value, steps, names) => {
    let index = 0;
    const size = Math.abs(value);
    while (index + 1 < steps.length && size >= steps[index + 1]) index += 1;
    return `${digits(value / steps[index])} ${names[index]}`;
  };
  const SECONDS = [[1e-6, 1e-3, 1, 60, 3600, 86400], ["µs", "ms", "s", "min", "h", "d"]];
  const BYTES = [[1, 2 ** 10, 2 ** 20, 2 ** 30, 2 ** 40], ["B", "KiB", "MiB", "GiB", "TiB"]];
  const COUNT = [[1, 1e3, 1e6, 1e9], ["", "k", "M", "G"]];
  // 99.95 % served is not all: what is below the whole is not rounded up to it.
  const percent = (value) => (value > 99 && value < 100 ? Math.floor(value * 1000) / 1000 : digits(value));
  const UNITS = {
    s: (value) => (value === 0 ? "0 s" : scaled(value, ...SECONDS)),
    percentunit: (value) => `${percent(value * 100)} %`,
    bytes: (value) => scaled(value, ...BYTES),
    Bps: (value) => `${scaled(value, ...BYTES)}/s`,
    reqps: (value) => `${scaled(value, ...COUNT)} req/s`,
    ops: (value) => `${scaled(value, ...COUNT)} /s`,
    short: (value) => scaled(value, ...COUNT),
    none: (value) => scaled(value, ...COUNT),
  };
  const format = (unit, value) => {
    if (value === null || value === undefined) return "–";
    return (UNITS[unit] || UNITS.none)(value).replace(/ +/g, " ").trim();
  };
  const tens = (from, to) => {
    const found = [];
    for (let power = from; power <= to; power += 1) for (const one of [1, 2, 5]) found.push(Number(`${one}e${power}`));
    return found;
  };
  const twos = Array.from({ length: 51 }, (_, power) => 2 ** power);
  const MINUTE = 60, HOUR = 3600, DAY = 86400;
  // Where an axis may have its lines: at round numbers of what the unit is read in.
  const STEPS = {
    s: [...tens(-6, -1), 1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, HOUR,
      2 * HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 20 * DAY, 50 * DAY, 100 * DAY, 500 * DAY, 1000 * DAY],
    bytes: twos, Bps: twos, short: tens(-2, 12), none: tens(0, 12),
  };

  // --- what is drawn ---
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const clock = (seconds, withDay) => {
    const at = new Date(seconds * 1000);
    const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    return withDay ? `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}` : time;
  };
  const element = (name, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(name), properties));
  const newest = (values) => values.findLast((value) => value !== null) ?? null;
  const dash = (index) => (index < 8 ? [] : [6, 3]);
  // A name of the style sheet's colours: a status has its own, the others take turns.
  const lineColour = (panel, index) => panel.colours[panel.series[index].name] || `line-${index % 8}`;
  // Each limit, in the worse of the two colours that it parts.
  const WORSE = ["red", "orange", "green"];
  const limitsOf = (panel) => panel.limits.slice(1).map(([value, name], index) => [
    value, WORSE.find((worse) => worse === name || worse === panel.limits[index][1]),
  ]);
  const stateOf = (panel, value) =>
    panel.limits.reduce((state, [from, name]) => (from === null || value >= from ? name : state), "");
  const WORDS = { green: "✓ good", orange: "▲ look", red: "✖ wrong" };

  const range = (panel) => (plot, least, most) => {
    if (most === null) return [0, 1];
    const near = limitsOf(panel).map(([value]) => value).filter((value) => value > most && most >= value / 2);
    const top = Math.max(panel.most ?? 0, most * 1.06, ...near.map((value) => value * 1.04));
    const bottom = Math.min(panel.least ?? least, least);
    return [bottom, top > bottom ? top : bottom + 1];
  };

  // Lines on each other: each one's values are the sum of its own and those below it.
  const stacked = (series) => {
    const sums = new Array(times.length).fill(0);
    return series.map((one) => one.values.map((value, index) => {
      if (value !== null) sums[index] += value;
      return value === null ? null : sums[index];
    }));
  };

  const drawLimits = (panel) => (plot) => {
    const { ctx, bbox } = plot;
    for (const [value, name] of limitsOf(panel)) {
      const y = plot.valToPos(value, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.save();
      ctx.strokeStyle = colour(name);
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.setLineDash([8 * devicePixelRatio, 5 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.restore();
    }
  };

  const axes = (panel) => {
    const look = { stroke: colour("quiet"), font: "12px system-ui, sans-serif" };
    const grid = { stroke: colour("grid"), width: 1 }, ticks = { stroke: colour("grid"), width: 1, size: 4 };
    const days = end - data.start > DAY;
    const values = (plot, splits) => splits.map((value) => format(panel.unit, value));
    return [
      { ...look, grid, ticks, space: days ? 110 : 60, size: 30, values: (plot, splits) => splits.map((at) => clock(at, days)) },
      {
        ...look, grid, ticks, values, incrs: STEPS[panel.unit], space: 34,
        size: (plot, labels) => 16 + 7 * Math.max(4, ...(labels || []).map((label) => label.length)),
      },
    ];
  };

  const options = (panel, box, group, hover) => {
    const isStack = panel.look === "stack", isNumber = panel.look === "number";
    const count = panel.series.length;
    return {
      width: box.clientWidth,
      height: isNumber ? 44 : 200,
      padding: isNumber ? [2, 0, 2, 0] : [8, 8, 0, 0],
      legend: { show: false },
      cursor: isNumber ? { show: false } : { sync: { key: group }, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: [data.start, end] }, y: { range: range(panel) } },
      axes: isNumber ? [{ show: false }, { show: false }] : axes(panel),
      series: [{}, ...panel.series.map((one, index) => ({
        label: one.name,
        stroke: colour(lineColour(panel, index)),
        width: 1.6,
        dash: dash(index),
        points: { show: false },
        // The lowest of a stack is filled down to zero, the others down to the one below.
        fill: (isStack && index === 0) || isNumber ? `${colour(lineColour(panel, index))}33` : undefined,
      }))],
      bands: isStack ? Array.from({ length: count - 1 }, (_, index) => ({
        series: [index + 2, index + 1], fill: `${colour(lineColour(panel, index + 1))}33`,
      })) : undefined,
      hooks: isNumber ? {} : { draw: [drawLimits(panel)], setCursor: [(plot) => hover(plot.cursor.idx)] },
    };
  };

  const swatch = (item, name, dashes) => {
    item.insertAdjacentHTML("afterbegin",
      `<svg width="18" height="8" aria-hidden="true"><line x1="0" y1="4" x2="18" y2="4" stroke="var(--${name})" ` +
      `stroke-width="3" stroke-dasharray="${dashes.join(" ")}"/></svg>`);
  };

  const legend = (panel, article) => {
    const list = element("ul", article, { className: "legend", ariaLabel: "Legend" });
    const shown = panel.series.map((one, index) => {
      const item = element("li", list);
      swatch(item, lineColour(panel, index), dash(index));
      element("div", item, { textContent: one.name });
      return element("span", item);
    });
    for (const [value, name] of limitsOf(panel)) {
      const item = element("li", list);
      swatch(item, name, [5, 3]);
      element("div", item, { textContent: "limit" });
      element("span", item, { textContent: format(panel.unit, value) });
    }
    const hover = (index) => panel.series.forEach((one, number) => {
      const value = index === null || index === undefined ? newest(one.values) : one.values[index];
      shown[number].textContent = format(panel.unit, value);
    });
    hover(null);
    // One that is too long scrolls, with the keyboard too.
    if (list.scrollHeight > list.clientHeight) list.tabIndex = 0;
    return hover;
  };

  const numbers = (panel, article) => {
    const list = element("ul", article, { className: "values" });
    for (const one of panel.series) {
      const value = newest(one.values), state = stateOf(panel, value), judged = limitsOf(panel).length > 0;
      const item = element("li", list);
      element("b", item, { textContent: format(panel.unit, value), className: judged ? state : "" });
      if (judged) element("span", item, { textContent: WORDS[state], className: state });
      if (panel.series.length > 1) element("span", item, { textContent: one.name });
    }
  };

  const redraws = [];
  const draw = (panel, grid, group) => {
    const article = element("article", grid, { className: `panel ${panel.look}` });
    element("h3", article, { textContent: panel.title });
    if (panel.says) element("p", article, { textContent: panel.says });
    article.dataset.state = panel.elsewhere ? "elsewhere" : panel.series.length ? "drawn" : "empty";
    if (article.dataset.state !== "drawn") {
      const text = panel.elsewhere ? "In Grafana alone, which asks PostgreSQL." : "No data in this time.";
      element("div", article, { className: "none", textContent: text });
      return;
    }
    if (panel.look === "number") numbers(panel, article);
    const said = panel.series.map((one) => `${one.name} ${format(panel.unit, newest(one.values))}`).join(", ");
    const box = element("div", article, { className: "chart", role: "img", ariaLabel: `${panel.title}: ${said}` });
    const hover = panel.look === "number" ? () => {} : legend(panel, article);
    const values = panel.look === "stack" ? stacked(panel.series) : panel.series.map((one) => one.values);
    let plot = null;
    const redraw = () => {
      if (plot) plot.destroy();
      plot = new uPlot(options(panel, box, group, hover), [times, ...values], box);
    };
    redraw();
    redraws.push(redraw);
    new ResizeObserver(() => {
      if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: plot.height });
    }).observe(box);
  };

  const main = document.getElementById("main"), nav = document.getElementById("boards");
  for (const board of data.dashboards) {
    element("a", nav, { href: `#${board.name}`, textContent: board.title });
    const section = element("section", main, { id: board.name });
    element("h2", section, { textContent: board.title });
    element("p", section, { textContent: board.says });
    const grid = element("div", section, { className: "panels" });
    for (const panel of board.panels) draw(panel, grid, board.name);
  }
  const days = end - data.start > DAY;
  const asked = document.querySelectorAll('.panel:not([data-state="elsewhere"])').length;
  const drawn = document.querySelectorAll('.panel[data-state="drawn"]').length;
  document.getElementById("about").textContent =
    `${clock(data.start, true)} to ${clock(end, days)}, every ${format("s", data.step)}. ${drawn} of ${asked} panels have data.`;
  // What is drawn on a canvas does not follow the style sheet.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
  window.dashboards = { format };
})();
