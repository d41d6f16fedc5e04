/* In Locust's page: shows FAVE's page where the FAVE tab is; before the first run, when there are no tabs, a button does. */
(() => {
  const page = document.currentScript.dataset.page;
  const frame = Object.assign(document.createElement("iframe"), { title: "FAVE" });
  frame.style.cssText = "display:block;width:100%;height:900px;border:0;";
  const sheet = document.createElement("div");
  sheet.style.cssText = "position:fixed;left:0;right:0;bottom:0;overflow:auto;z-index:1000;padding:16px 24px;display:none;";
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "FAVE live", id: "fave-open" });
  button.style.cssText = "margin:0 12px;padding:4px 12px;font:500 14px Roboto,Arial,sans-serif;border-radius:4px;border:1px solid currentColor;background:transparent;color:inherit;cursor:pointer;";
  const note = Object.assign(document.createElement("p"), { id: "fave-note",
    textContent: "FAVE: response times are latencies from the scheduled arrival, exact to the millisecond; a late reply delays no later arrival." });
  note.style.cssText = "font:13px Roboto,Arial,sans-serif;opacity:.75;margin:12px 0;";
  const openLoop = document.currentScript.dataset.openLoop === "true";
  const first = ["load", "rate", "duration", "regime", "target", "sample", "query", "timeline"];
  let open = false, unfolded = false;
  const dark = () => (localStorage.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  function show(host) {
    if (!frame.src) frame.src = page;
    if (frame.parentElement !== host) host.append(frame);
    frame.style.display = "block";
  }
  /* React draws Locust's page anew whenever it likes: we look where we belong, and go there. */
  function settle() {
    const header = document.querySelector("header"), tabs = document.querySelector("[role=tablist]");
    const mine = tabs && [...tabs.querySelectorAll("[role=tab]")].find((tab) => tab.textContent.trim() === "FAVE");
    const selected = mine && mine.getAttribute("aria-selected") === "true";
    const bar = header && (header.querySelector(".MuiToolbar-root") || header);
    if (bar && button.parentElement !== bar) bar.append(button);
    button.style.display = mine ? "none" : "";
    const container = tabs && tabs.closest(".MuiContainer-root");
    if (mine) {
      open = false; sheet.style.display = "none";
      if (selected) show(container); else if (frame.parentElement === container) frame.style.display = "none";
      if (container && note.parentElement !== container) container.append(note);
      note.style.display = selected ? "none" : "";
    } else {
      if (sheet.parentElement !== document.body) document.body.append(sheet);
      sheet.style.display = open ? "block" : "none";
      sheet.style.top = `${header ? header.getBoundingClientRect().bottom : 64}px`;
      sheet.style.background = dark() ? "#121212" : "#fff";
      if (open) show(sheet);
    }
    document.body.style.overflow = open ? "hidden" : "";
    button.textContent = open ? "Back to the start form" : "FAVE live";
  }
  /* The start form: what matters first, unfolded; Locust's users and host have no meaning where a schedule decides. */
  function arrange() {
    const form = document.querySelector("form"), field = (name) => form && form.querySelector(`[name="${name}"]`)?.closest(".MuiFormControl-root");
    if (!form) { unfolded = false; return; }
    if (openLoop) for (const name of ["userCount", "spawnRate", "host"]) { const f = field(name); if (f) f.style.display = "none"; }
    const fold = [...form.querySelectorAll("button[aria-expanded]")].find((b) => b.textContent.includes("Custom parameters"));
    if (fold && !unfolded) { unfolded = true; if (fold.getAttribute("aria-expanded") === "false") fold.click(); }
    const rate = field("rate");
    if (!rate) return;
    Object.assign(rate.parentElement.style, { display: "flex", flexDirection: "column" });
    for (const f of rate.parentElement.children) {
      const at = first.indexOf(f.querySelector("[name]")?.getAttribute("name"));
      f.style.order = at < 0 ? first.length : at;
    }
  }
  button.onclick = () => { open = !open; settle(); };
  addEventListener("message", (event) => {
    if (event.source === frame.contentWindow && event.origin === location.origin && event.data.fave === "height") frame.style.height = `${event.data.height}px`;
  });
  let due = 0;
  new MutationObserver(() => { if (!due) due = requestAnimationFrame(() => { due = 0; settle(); arrange(); }); })
    .observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
  settle();
  arrange();
})();
