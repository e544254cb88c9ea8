// Everything here is an addition: each page works without it.
(() => {
  "use strict";
  const $ = (s, r = document) => r.querySelector(s);
  const $$ = (s, r = document) => [...r.querySelectorAll(s)];

  // Relative times; the exact instant stays in the title.
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const span = (s) => {
    s = Math.abs(Math.round(s));
    const at = units.findIndex(([n]) => s >= n);
    if (at < 0) return "0s";
    const [n, u] = units[at];
    const rest = units[at + 1];
    const low = rest ? Math.floor((s % n) / rest[0]) : 0;
    return low && at < 3 ? `${Math.floor(s / n)}${u} ${String(low).padStart(2, "0")}${rest[1]}` : `${Math.floor(s / n)}${u}`;
  };
  const tell = () => {
    const now = Date.now();
    for (const t of $$("time[data-rel]")) {
      const d = (now - Date.parse(t.dateTime)) / 1000;
      const word = d >= 0 ? `${span(d)} ago` : `in ${span(d)}`;
      if (t.textContent !== word) t.textContent = word;
    }
    for (const t of $$("time[data-since]")) t.textContent = span((now - Date.parse(t.dateTime)) / 1000);
  };
  tell();
  setInterval(tell, 1000);

  // Live pages: the event stream says that something changed, htmx fetches the page again and morphs the region.
  const live = $("#live[hx-get]");
  if (live) {
    let timer = 0;
    let last = 0;
    const refresh = () => {
      if (timer) return;
      timer = setTimeout(() => {
        timer = 0;
        last = Date.now();
        const editing = document.activeElement && document.activeElement.closest("#live input, #live select, #live textarea, #live dialog");
        if (!editing && !document.hidden) document.body.dispatchEvent(new Event("tidemill"));
      }, Math.max(250, 1000 - (Date.now() - last)));
    };
    const source = new EventSource(`/api/v1/events${live.dataset.events || ""}`);
    source.addEventListener("change", refresh);
    // What changed between the page and its stream, or while the stream was away, came with no event.
    source.addEventListener("open", refresh);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
    // A log belongs to its try: when a newer try begins, the page begins anew with its log.
    const attempt = live.dataset.attempt;
    document.addEventListener("htmx:after:swap", () => {
      tell();
      if (($("#live")?.dataset.attempt ?? "") !== (attempt ?? "")) location.reload();
    });
    addEventListener("pagehide", () => source.close());
  }

  // The log: what the page already has, then the stream from there.
  const log = $("[data-log]");
  if (log) {
    let follow = log.dataset.follow === "true";
    const toEnd = () => { log.scrollTop = log.scrollHeight; };
    log.addEventListener("scroll", () => { follow = log.scrollHeight - log.scrollTop - log.clientHeight < 24; });
    if (follow) toEnd();
    const on = (id, act) => { const b = $(id); if (b) { b.hidden = false; b.addEventListener("click", act); } };
    on("#log-end", () => { follow = true; toEnd(); });
    const flip = (id, name) => on(id, (e) => { const is = log.classList.toggle(name); e.currentTarget.setAttribute("aria-pressed", String(is)); });
    flip("#log-wrap", "wrap");
    flip("#log-times", "times");
    const search = $("#log-search");
    const mark = () => {
      const word = search.value.toLowerCase();
      let n = 0;
      for (const l of $$(".l", log)) { const is = word !== "" && l.textContent.toLowerCase().includes(word); l.classList.toggle("hit", is); if (is) n += 1; }
      $("#log-found").textContent = word ? `${n} line${n === 1 ? "" : "s"}` : "";
    };
    if (search) {
      search.parentElement.hidden = false;
      search.addEventListener("input", mark);
      search.addEventListener("keydown", (e) => {
        if (e.key !== "Enter") return;
        e.preventDefault();
        const hits = $$(".l.hit", log);
        const next = hits.find((l) => l.offsetTop > log.scrollTop + 8) || hits[0];
        if (next) { follow = false; log.scrollTop = next.offsetTop - 4; }
      });
    }
    if (log.dataset.log) {
      const source = new EventSource(log.dataset.log);
      // Server-rendered HTML of whole lines, already escaped there.
      source.addEventListener("lines", (e) => {
        const open = $(".l[data-open]", log);
        if (open) open.remove();
        log.insertAdjacentHTML("beforeend", e.data);
        while (log.childElementCount > 20000) log.firstElementChild.remove();
        if (follow) toEnd();
      });
      source.addEventListener("end", () => { source.close(); $("#log-size").textContent = ""; document.body.dispatchEvent(new Event("tidemill")); });
      addEventListener("pagehide", () => source.close());
    }
  }

  // Cells of a big grid carry no link of their own.
  document.addEventListener("click", (e) => {
    const cell = e.target.closest("td.k > i.c");
    if (!cell) return;
    const row = cell.closest("tr").dataset.task;
    const run = $(`[data-col="${cell.parentElement.cellIndex}"]`)?.dataset.run;
    if (row && run) location.href = `${run}/tasks/${row}`;
  });

  // Graph: zoom by buttons, drag to pan.
  const graph = $(".graph");
  const drawing = graph && $("svg", graph);
  if (drawing) {
    const w = Number(drawing.getAttribute("width"));
    const h = Number(drawing.getAttribute("height"));
    let z = 1;
    const zoom = (f) => { z = Math.min(3, Math.max(0.05, f)); drawing.setAttribute("width", w * z); drawing.setAttribute("height", h * z); };
    const fit = () => zoom(Math.min(1, (graph.clientWidth - 16) / w));
    for (const [id, act] of [["#zoom-in", () => zoom(z * 1.25)], ["#zoom-out", () => zoom(z / 1.25)], ["#zoom-fit", fit]]) {
      const b = $(id);
      if (b) { b.hidden = false; b.addEventListener("click", act); }
    }
    let from = null;
    graph.addEventListener("pointerdown", (e) => { if (!e.target.closest("a")) from = [e.clientX + graph.scrollLeft, e.clientY + graph.scrollTop]; });
    addEventListener("pointermove", (e) => { if (from) { graph.scrollLeft = from[0] - e.clientX; graph.scrollTop = from[1] - e.clientY; } });
    addEventListener("pointerup", () => { from = null; });
  }

  // Keyboard.
  let lead = "";
  let at = -1;
  document.addEventListener("keydown", (e) => {
    if (e.target.closest("input, textarea, select") || e.ctrlKey || e.metaKey || e.altKey) return;
    const rows = $$("[data-row]");
    const move = (d) => {
      if (!rows.length) return;
      at = Math.min(rows.length - 1, Math.max(0, at + d));
      rows.forEach((r, i) => r.classList.toggle("at", i === at));
      rows[at].scrollIntoView({ block: "nearest" });
    };
    if (lead === "g" && { h: 1, d: 1, p: 1, w: 1, a: 1 }[e.key]) {
      location.href = { h: "/", d: "/dags", p: "/pools", w: "/workers", a: "/audit" }[e.key];
    } else if (e.key === "/") { const s = $("[data-search]"); if (s) { e.preventDefault(); s.focus(); } else location.href = "/dags"; }
    else if (e.key === "j") move(1);
    else if (e.key === "k") move(-1);
    else if (e.key === "Enter" && at >= 0 && document.activeElement === document.body) { const a = $("a", rows[at]); if (a) a.click(); }
    else if (e.key === "?") { const d = $("#keys"); if (d) { if (d.open) d.close(); else d.showModal(); } }
    lead = e.key === "g" ? "g" : "";
  });
})();
