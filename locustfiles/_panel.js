/* A button in Locust's page that opens FAVE's panel over it; the run goes on underneath. */
(() => {
  const open = document.createElement("button");
  const frame = document.createElement("iframe");
  open.textContent = "FAVE: replicas and cold starts";
  open.style.cssText =
    "position:fixed;right:16px;bottom:16px;z-index:1300;padding:10px 16px;border:0;border-radius:6px;" +
    "background:#15803d;color:#fff;font:600 14px system-ui;cursor:pointer;box-shadow:0 2px 8px #0006";
  frame.title = "FAVE";
  frame.style.cssText =
    "position:fixed;right:16px;bottom:64px;width:min(760px,calc(100vw - 32px));height:min(560px,calc(100vh - 96px));" +
    "z-index:1300;border:1px solid #8886;border-radius:8px;background:#fff;display:none;box-shadow:0 4px 24px #0006";
  open.onclick = () => {
    const hidden = frame.style.display === "none";
    if (hidden && !frame.src) frame.src = "fave";
    frame.style.display = hidden ? "block" : "none";
  };
  document.body.append(open, frame);
})();
