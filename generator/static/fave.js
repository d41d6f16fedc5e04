/* FAVE's page: asks for what is new once a second, and draws it. */
(() => {
  const $ = (id) => document.getElementById(id), kept = 1800, points = [];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const embedded = window.parent !== window;
  let since = 0, now = { phases: [] }, charts = [], replicaCharts = new Map(), asked = "";
  document.body.classList.toggle("alone", !embedded);
  document.documentElement.classList.toggle("framed", embedded);

  const make = (tag, text, cls) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: cls || "" });
  const ms = (v) => v == null ? "–" : v >= 1000 ? `${(v / 1000).toFixed(2)} s` : `${v < 10 ? v.toFixed(1) : Math.round(v)} ms`;
  const seconds = (v) => v == null ? "–" : ms(v * 1000);
  const percent = (v) => v == null ? "–" : `${(100 * v).toFixed(1)} %`;
  const clock = (s) => new Date(s * 1000).toLocaleTimeString();

  /* Phases of the run as shaded bands with the regime's name. */
  function shade(u) {
    const { ctx } = u, { left, top, width, height } = u.bbox, ends = now.phases;
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px Roboto, Arial, sans-serif`;
    ctx.textBaseline = "top"; ctx.textAlign = "left";
    ends.forEach((phase, i) => {
      if (!phase.regime && !phase.name) return;
      const to = ends[i + 1] ? ends[i + 1].from_s : Infinity;
      const a = Math.max(left, u.valToPos(phase.from_s, "x", true));
      const b = Math.min(left + width, to === Infinity ? left + width : u.valToPos(to, "x", true));
      if (b <= a) return;
      ctx.fillStyle = `rgba(${css("--shade")}, ${i % 2 ? .09 : .045})`;
      ctx.fillRect(a, top, b - a, height);
      const label = phase.regime || phase.name;
      if (ctx.measureText(label).width + 8 < b - a) { ctx.fillStyle = css("--soft"); ctx.fillText(label, a + 4, top + 3); }
    });
    ctx.restore();
  }

  const width = (el) => Math.max(200, el.clientWidth);
  function chart(host, title, series, height, options = {}) {
    const figure = make("figure"), caption = make("figcaption", title);
    for (const s of series) {
      const key = make("i"); key.style.borderTopColor = css(s.colour); key.style.borderTopStyle = s.dash ? "dashed" : "solid";
      caption.append(key, make("span", s.label));
    }
    figure.append(caption); host.append(figure);
    const day = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
    const axis = (side) => ({ stroke: css("--soft"), grid: { stroke: css("--grid") }, ticks: { stroke: css("--grid") }, ...side });
    const y = { ...axis({}), size: 64, values: (_, vs) => vs.map((v) => v == null ? "" : (options.format || String)(v)) };
    if (options.whole) y.incrs = [1, 2, 5, 10, 20, 50];
    const u = new uPlot({
      width: width(figure), height, cursor: { sync: { key: "fave" }, y: false }, legend: { show: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(options.least || 0, (high || 0) * 1.1)] } },
      axes: [axis({ space: 90, size: 28, values: (_, vs) => vs.map((v) => new Date(v * 1000).toLocaleTimeString([], day)) }), y],
      series: [{}, ...series.map((s) => ({ label: s.label, stroke: css(s.colour), width: 2, dash: s.dash ? [6, 4] : undefined, spanGaps: false,
        points: { show: options.dots || false, size: 5 }, paths: options.steps ? uPlot.paths.stepped({ align: 1 }) : undefined }))],
      hooks: { drawClear: [shade], setCursor: [(u) => tell(u, caption, series, options)] },
    }, [[], ...series.map(() => [])], figure);
    return { u, figure, of: series.map((s) => s.of) };
  }
  /* Values under the cursor stand in the caption. */
  function tell(u, caption, series, options) {
    const at = u.cursor.idx, spans = caption.querySelectorAll("span");
    series.forEach((s, i) => {
      const v = at == null ? null : u.data[i + 1][at];
      spans[i].textContent = v == null ? s.label : `${s.label} ${(options.format || String)(v)}`;
    });
  }
  function build() {
    charts.forEach((c) => c.u.destroy()); replicaCharts.forEach((c) => c.u.destroy());
    $("charts").replaceChildren(); $("replicas").replaceChildren(); charts = []; replicaCharts = new Map();
    const host = $("charts");
    charts.push(chart(host, "Cold invocations per second", [{ label: "cold/s", colour: "--blue", of: (p) => p.cold_per_s }], 170, { least: 1, steps: true }));
    charts.push(chart(host, "Cold-start rate of invocations", [{ label: "share", colour: "--blue", of: (p) => p.cold_share }], 170, { least: 1, dots: true, format: (v) => `${Math.round(v * 100)} %` }));
    charts.push(chart(host, "Latency from schedule", [{ label: "p50", colour: "--blue", of: (p) => p.p50_ms }, { label: "p95", colour: "--orange", dash: true, of: (p) => p.p95_ms }], 170, { least: 10, dots: true, format: ms }));
    charts.push(chart(host, "Per second", [{ label: "sent", colour: "--amber", dash: true, of: (p) => p.sent_per_s }, { label: "answered", colour: "--blue", of: (p) => p.ok_per_s }], 170, { least: 2, steps: true }));
    charts.push(chart(host, "In flight", [{ label: "requests", colour: "--blue", of: (p) => p.in_flight }], 170, { least: 2, steps: true }));
    charts.push(chart(host, "Schedule lag", [{ label: "p99 of each second", colour: "--blue", of: (p) => p.lag_ms }], 170, { least: 2, dots: true, format: ms }));
  }
  /* Half an hour at most, a minute at least. */
  function windowS(end) {
    const chosen = $("window").value, began = now.phases[0]?.from_s;
    return chosen === "run" ? Math.min(kept, Math.max(60, began ? end - began + 5 : 0)) : +chosen;
  }
  function fit() {
    for (const c of [...charts, ...replicaCharts.values()]) if (c.u.width !== width(c.figure)) c.u.setSize({ width: width(c.figure), height: c.u.height });
  }
  function draw() {
    const end = Date.now() / 1000, span = windowS(end), shown = points.filter((p) => p.at_s > end - span), x = shown.map((p) => p.at_s);
    const put = (c, rows) => { c.u.setData([x, ...rows], false); c.u.setScale("x", { min: end - span, max: end }); };
    for (const c of charts) put(c, c.of.map((of) => shown.map((p) => of(p) ?? null)));
    const names = [...new Set(shown.flatMap((p) => Object.keys(p.replicas)))].sort();
    for (const [name, c] of replicaCharts) if (!names.includes(name)) { c.u.destroy(); c.figure.remove(); replicaCharts.delete(name); }
    if (names.length) $("replicas").querySelector(".none")?.remove();
    for (const name of names) {
      if (!replicaCharts.has(name)) replicaCharts.set(name, chart($("replicas"), name, [
        { label: "desired", colour: "--amber", dash: true, of: (p) => p.replicas[name]?.[0] },
        { label: "ready", colour: "--blue", of: (p) => p.replicas[name]?.[1] }], 110, { least: 2.2, steps: true, whole: true }));
      const c = replicaCharts.get(name); put(c, c.of.map((of) => shown.map((p) => of(p) ?? null)));
    }
    fit();
  }
  function table(id, rows) {
    $(id).tBodies[0].replaceChildren(...rows.map((cells) => { const row = make("tr"); row.append(...cells.map((c) => make("td", c))); return row; }));
  }
  function verdict() {
    const box = $("verdict"), f = now.outcome?.fidelity, v = now.outcome?.verdict;
    if (!now.outcome) { box.textContent = ""; return; }
    if (!v) { box.className = ""; box.textContent = "Closed-loop users: replies decided when requests left, so there is no schedule to judge them by."; return; }
    const trouble = now.outcome.trouble || [], believed = v.valid && !trouble.length;
    box.className = believed ? "" : "bad";
    const bad = v.findings.filter((x) => !x.ok).map((x) => `${x.gate}: ${x.note || `${(+x.observed).toPrecision(3)} is over ${x.limit}`}`);
    box.textContent = `Load as sent: ${believed ? "VALID" : "INVALID"}${now.outcome.stopped_early ? " (stopped before its end)" : ""}. ` +
      `Sent ${f.sent} of ${f.scheduled}, dropped ${f.dropped}, unsent ${f.unsent}; schedule lag p50 ${seconds(f.schedule_lag_p50_s)}, p99 ${seconds(f.schedule_lag_p99_s)}, ` +
      `max ${seconds(f.schedule_lag_max_s)}; rate error ${percent(f.rate_error)}; generator CPU ${percent(f.generator_cpu_share)}.` + [...bad, ...trouble].map((b) => `\n${b}`).join("");
  }
  function show(view) {
    now = view;
    for (const p of view.points) { points.push(p); since = p.seq; }
    if (points.length > kept) points.splice(0, points.length - kept);
    const c = view.counts, last = points[points.length - 1] || {};
    $("problems").textContent = view.problems.join("\n");
    $("status").textContent = view.status || (view.running ? `${view.kind} is running` : view.outcome ? "the run has ended" : "no run yet: start one on Locust's page");
    $("figures").replaceChildren(...[["sent", c.sent], ["in flight", view.running ? last.in_flight : null], ["answered", c.ok], ["cold invocations", c.cold],
      ["cold-start rate", view.cold_share == null ? null : percent(view.cold_share)], ["failed", c.failed], ["timed out", c.timeout], ["dropped", c.dropped], ["unsent", c.unsent]]
      .map(([name, value]) => { const d = make("div"); d.append(make("dt", name), make("dd", value ?? "–")); return d; }));
    verdict();
    table("stages", view.stages.map((s) => [s.name, s.invocations, s.cold, seconds(s.init_s), seconds(s.p50_s), seconds(s.p95_s), s.failures]));
    table("changes", view.changes.map((x) => [x.regime, x.by + (x.phase ? `, phase ${x.phase}` : ""), clock(x.requested_at_ns / 1e9),
      x.effective_at_ns ? seconds((x.effective_at_ns - x.requested_at_ns) / 1e9) : `not: ${x.error}`, Object.entries(x.ready).map(([n, r]) => `${n} ${r}`).join(", ")]));
    const inForce = [...view.changes].reverse().find((x) => x.effective_at_ns)?.regime;
    for (const b of document.querySelectorAll("[data-regime]")) b.setAttribute("aria-pressed", String(b.dataset.regime === inForce));
    draw();
  }
  async function poll() {
    try {
      const reply = await fetch(`fave/snapshot?since=${since}`);
      if (!reply.ok) throw new Error(`it answered ${reply.status}`);
      show(await reply.json());
    } catch (error) { $("problems").textContent = `Locust does not answer (${error.message})`; }
    setTimeout(poll, 1000);
  }
  async function switchTo(button) {
    const all = [...document.querySelectorAll("[data-regime]")];
    all.forEach((b) => { b.disabled = true; });
    try {
      const reply = await fetch("fave/regime", { method: "POST", headers: { "Content-Type": "application/json", "X-Fave-Token": document.body.dataset.token },
        body: JSON.stringify({ regime: button.dataset.regime }) });
      if (!reply.ok) { const told = await reply.json().catch(() => ({})); alert(told.problem || `Locust answered ${reply.status}`); }
    } finally { all.forEach((b) => { b.disabled = false; }); }
  }
  async function reports() {
    const names = await fetch("fave/runs").then((r) => r.json()).catch(() => []);
    if (String(names) !== asked || !$("reports").children.length) $("reports").replaceChildren(...(names.length ? names : [null]).map((name) => {
      const item = make("li");
      if (!name) { item.textContent = "none yet: make bench leaves one"; return item; }
      item.append(Object.assign(make("a", name), { href: `fave/runs/${encodeURIComponent(name)}/report.html`, target: "_blank" })); return item;
    }));
    asked = String(names); setTimeout(reports, 15000);
  }
  for (const b of document.querySelectorAll("[data-regime]")) b.onclick = () => switchTo(b);
  $("window").onchange = draw;
  addEventListener("storage", () => { document.documentElement.dataset.theme = theme(); build(); draw(); });
  new ResizeObserver(fit).observe(document.body);
  if (embedded) new ResizeObserver(() => parent.postMessage({ fave: "height", height: document.body.scrollHeight + 8 }, location.origin)).observe(document.body);
  build(); poll(); reports();
})();
