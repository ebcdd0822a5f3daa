// The page is whole without this. It adds a cursor and a zoom to charts over time, and opens what a
// link leads to.
"use strict";
(() => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const sync = "rmqbench";

  const bands = (data) => (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (const [begin, end, text, kind] of data.bands) {
      const left = Math.max(plot.valToPos(begin, "x", true), bbox.left);
      const right = Math.min(plot.valToPos(end, "x", true), bbox.left + bbox.width);
      if (right < bbox.left || left > bbox.left + bbox.width) continue;
      ctx.globalAlpha = kind === "interruption" ? 0.8 : 0.18;
      ctx.fillStyle = colour({ restart: "--restart", interruption: "--open" }[kind] ?? "--fault");
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
      ctx.globalAlpha = 1;
      ctx.fillText(text, left + 4 * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  };

  const short = (value) => {
    if (value === null || value === undefined) return "–";
    for (const [factor, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= factor) return Number((value / factor).toPrecision(4)) + unit;
    return String(Number(value.toPrecision(4)));
  };

  const draw = (holder) => {
    const data = JSON.parse(holder.querySelector("script").textContent);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const options = {
      width: holder.clientWidth, height: 236,
      cursor: { sync: { key: sync + holder.closest("figure").id.split("-time-")[0] }, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (_, low, high) => [low, high] }, y: { range: (_, low, high) => [0, (high || 1) * 1.05] } },
      series: [{ label: "second", value: (_, value) => value === null ? "–" : value.toFixed(1) }].concat(
        data.names.map((name, number) => ({
          label: name, stroke: colour("--c" + (number % 8)), width: 1.8, points: { show: false },
          value: (_, value) => short(value),
        }))),
      axes: [{ ...axis, size: 26, gap: 6 }, { ...axis, size: 56, values: (_, values) => values.map(short) }],
      legend: { markers: { width: 0, fill: (_, number) => number ? colour("--c" + ((number - 1) % 8)) : "transparent" } },
      hooks: { drawClear: [bands(data)] },
    };
    holder.classList.add("drawn");
    return new uPlot(options, [data.x, ...data.y], holder);
  };

  const enliven = (holder) => {
    let plot = draw(holder);
    const again = document.createElement("button");
    again.type = "button";
    again.className = "again";
    again.textContent = "Whole time";
    again.title = "Drag over the chart to look closer; this shows all of it again.";
    again.addEventListener("click", () => plot.setData(plot.data));
    holder.closest("figure").querySelector("figcaption").append(again);
    new ResizeObserver(() => {
      if (holder.clientWidth && holder.clientWidth !== plot.width) plot.setSize({ width: holder.clientWidth, height: 236 });
    }).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      plot.destroy();
      plot = draw(holder);
    });
  };

  const seen = new IntersectionObserver((entries) => {
    for (const each of entries) if (each.isIntersecting) {
      seen.unobserve(each.target);
      enliven(each.target);
    }
  }, { rootMargin: "200px" });
  if (window.uPlot) document.querySelectorAll(".closer").forEach((each) => seen.observe(each));

  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.localName === "details") each.open = true;
    target.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    if (event.target.closest("a[href^='#']")) setTimeout(reveal);
  });
  reveal();
})();
