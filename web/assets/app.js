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
  // The zone of the browser is known only here: the server tells times in UTC then.
  const isLocal = document.documentElement.dataset.zone === "local";
  const local = (t) => new Date(t.dateTime).toLocaleString("sv-SE", { timeZoneName: "short" });
  const tell = () => {
    const now = Date.now();
    if (isLocal) {
      for (const t of $$("time[data-abs], time[data-rel]")) {
        if (t.dataset.told === t.dateTime) continue;
        t.dataset.told = t.dateTime;
        t.title = `${local(t)}, ${t.dateTime}`;
        if ("abs" in t.dataset) t.textContent = local(t);
      }
    }
    for (const t of $$("time[data-rel]")) {
      const d = (now - Date.parse(t.dateTime)) / 1000;
      const word = d >= 0 ? `${span(d)} ago` : `in ${span(d)}`;
      if (t.textContent !== word) t.textContent = word;
    }
    for (const t of $$("time[data-since]")) t.textContent = span((now - Date.parse(t.dateTime)) / 1000);
  };
  tell();
  setInterval(tell, 1000);

  // A browser has six connections to a server for all of its tabs: a page has one stream, and none while nobody looks.
  const listen = (url, on) => {
    let source = null;
    const open = () => {
      if (source || document.hidden) return;
      source = new EventSource(url());
      for (const [name, act] of Object.entries(on)) source.addEventListener(name, act);
    };
    const close = () => { if (source) source.close(); source = null; };
    const look = () => { if (document.hidden) close(); else open(); };
    document.addEventListener("visibilitychange", look);
    addEventListener("pagehide", close);
    addEventListener("pageshow", look);
    open();
    return () => { document.removeEventListener("visibilitychange", look); removeEventListener("pageshow", look); close(); };
  };

  // Live pages: the event stream says that something changed, htmx fetches the page again and morphs the region.
  const live = $("#live[hx-get]");
  let timer = 0;
  let last = 0;
  const refresh = () => {
    if (timer || !live) return;
    timer = setTimeout(() => {
      timer = 0;
      last = Date.now();
      const editing = document.activeElement && document.activeElement.closest("#live input, #live select, #live textarea, #live dialog");
      if (!editing && !document.hidden) document.body.dispatchEvent(new Event("tidemill"));
    }, Math.max(250, 1000 - (Date.now() - last)));
  };
  // What changed between the page and its stream, or while the stream was away, came with no event.
  const changes = { change: refresh, open: refresh };
  const follow = () => { if (live) listen(() => `/api/v1/events${live.dataset.events || ""}`, changes); };
  if (live) {
    // A log belongs to its try: when a newer try begins, the page begins anew with its log.
    const attempt = live.dataset.attempt;
    document.addEventListener("htmx:after:swap", () => {
      tell();
      if (($("#live")?.dataset.attempt ?? "") !== (attempt ?? "")) location.reload();
    });
  }

  // The log: what the page already has, then the stream from there.
  const log = $("[data-log]");
  if (log) {
    let isFollowing = log.dataset.follow === "true";
    const toEnd = () => { log.scrollTop = log.scrollHeight; };
    log.addEventListener("scroll", () => { isFollowing = log.scrollHeight - log.scrollTop - log.clientHeight < 24; });
    if (isFollowing) toEnd();
    const on = (id, act) => { const b = $(id); if (b) { b.hidden = false; b.addEventListener("click", act); } };
    on("#log-end", () => { isFollowing = true; toEnd(); });
    const flip = (id, name) => on(id, (e) => { const is = log.classList.toggle(name); e.currentTarget.setAttribute("aria-pressed", String(is)); });
    flip("#log-wrap", "wrap");
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
        if (next) { isFollowing = false; log.scrollTop = next.offsetTop - 4; }
      });
    }
    if (log.dataset.log) {
      const url = new URL(log.dataset.log, location.href);
      // Server-rendered HTML of whole lines, already escaped there.
      const lines = (e) => {
        const open = $(".l[data-open]", log);
        if (open) open.remove();
        log.insertAdjacentHTML("beforeend", e.data);
        while (log.childElementCount > 20000) log.firstElementChild.remove();
        if (isFollowing) toEnd();
        // A page that is looked at again goes on where it was: before the line that has no end yet.
        url.searchParams.set("offset", e.lastEventId);
        let whole = log.lastElementChild;
        if (whole && whole.hasAttribute("data-open")) whole = whole.previousElementSibling;
        const n = whole && $(".n", whole);
        if (n) url.searchParams.set("line", Number(n.textContent) + 1);
        else if (whole) url.searchParams.delete("line");
      };
      // The stream of the log tells of changes too, until the log has ended.
      const end = () => { stop(); $("#log-size").textContent = ""; follow(); };
      const stop = listen(() => url.href, { ...changes, lines, end });
    }
  }
  if (!log?.dataset.log) follow();

  // The panel beside the grid: a cell is a link to the page with the panel; here only the panel is asked for. In a big
  // grid the cells carry no link of their own. The panel follows what happens by itself, like the page.
  const isPlain = (e) => e.button === 0 && !(e.ctrlKey || e.metaKey || e.shiftKey || e.altKey);
  const openCell = () => { const q = new URLSearchParams(location.search); return [q.get("run_id"), q.get("task_id")]; };
  const ring = () => {
    const grid = $(".grid[data-cell]");
    if (!grid) return;
    for (const c of $$(".c.on", grid)) c.classList.remove("on");
    const [run, task] = openCell();
    if (!run || !task || !$("#side")) return;
    const column = $(`[data-run="${CSS.escape(run)}"]`, grid)?.dataset.col;
    const row = $(`tr[data-task="${CSS.escape(task)}"]`, grid);
    if (column && row) $(".c", row.cells[column])?.classList.add("on");
  };
  const showSide = async (run, task) => {
    const grid = $(".grid[data-cell]");
    const query = `run_id=${encodeURIComponent(run)}&task_id=${encodeURIComponent(task)}`;
    const page = `${location.pathname}${grid.dataset.here}${query}`;
    const reply = await fetch(`${grid.dataset.cell}?${query}`, { headers: { accept: "text/html" } }).catch(() => null);
    if (!reply || !reply.ok) { location.href = page; return; }
    const side = document.adoptNode(new DOMParser().parseFromString(await reply.text(), "text/html").body.firstElementChild);
    $("#side")?.remove();
    $(".beside").append(side);
    htmx.process(side);
    history.replaceState(history.state, "", page);
    tell();
    ring();
    side.focus({ preventScroll: true });
  };
  document.addEventListener("click", (e) => {
    if (!isPlain(e)) return;
    if (e.target.closest("#side [data-close]")) {
      e.preventDefault();
      $("#side").remove();
      const here = $(".grid[data-cell]")?.dataset.here ?? "?";
      history.replaceState(history.state, "", location.pathname + here.slice(0, -1));
      ring();
      return;
    }
    const cell = e.target.closest(".grid[data-cell] td.k > .c");
    const task = cell?.closest("tr").dataset.task;
    const run = cell && $(`[data-col="${cell.parentElement.cellIndex}"]`)?.dataset.run;
    if (!task || !run) return;
    e.preventDefault();
    showSide(run, task);
  });
  document.addEventListener("htmx:after:swap", ring);

  // Graph: zoom by buttons, drag to pan. A refresh brings the drawing in its own size, so the size is set again after it.
  let zoom = 1;
  const drawing = () => $(".graph > svg");
  const arrange = () => {
    const svg = drawing();
    for (const b of $$("[data-zoom]")) b.hidden = !svg;
    if (!svg) return;
    const { width, height } = svg.viewBox.baseVal;
    svg.setAttribute("width", width * zoom);
    svg.setAttribute("height", height * zoom);
  };
  const sizes = {
    in: () => zoom * 1.25,
    out: () => zoom / 1.25,
    fit: (svg) => Math.min(1, (svg.parentElement.clientWidth - 16) / svg.viewBox.baseVal.width),
  };
  document.addEventListener("click", (e) => {
    const size = sizes[e.target.closest("[data-zoom]")?.dataset.zoom];
    if (!size || !drawing()) return;
    zoom = Math.min(3, Math.max(0.05, size(drawing())));
    arrange();
  });
  arrange();
  document.addEventListener("htmx:after:swap", arrange);
  let pan = null;
  document.addEventListener("pointerdown", (e) => {
    const graph = e.target.closest(".graph");
    if (graph && !e.target.closest("a")) pan = { graph, x: e.clientX + graph.scrollLeft, y: e.clientY + graph.scrollTop };
  });
  addEventListener("pointermove", (e) => { if (pan) { pan.graph.scrollLeft = pan.x - e.clientX; pan.graph.scrollTop = pan.y - e.clientY; } });
  addEventListener("pointerup", () => { pan = null; });

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
    else if (e.key === "Escape" && $("#side") && !$("dialog[open]")) $("#side [data-close]").click();
    else if (e.key === "j") move(1);
    else if (e.key === "k") move(-1);
    else if (e.key === "Enter" && at >= 0 && document.activeElement === document.body) { const a = $("a", rows[at]); if (a) a.click(); }
    else if (e.key === "?") { const d = $("#keys"); if (d) { if (d.open) d.close(); else d.showModal(); } }
    lead = e.key === "g" ? "g" : "";
  });
})();
