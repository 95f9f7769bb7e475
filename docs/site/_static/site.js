// What scrolls sideways inside a page (a wide table, a long formula) is reached by keyboard too.
const reachable = () => {
  for (const e of document.querySelectorAll("main .output, main .math, main pre, main .pst-scrollable-table-container, main mjx-container")) {
    const wide = e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX);
    if (wide && e.tabIndex < 0) { // none, or the theme's -1 of before the page had its width
      e.tabIndex = 0;
      e.dataset.reachable = "";
    } else if (!wide && "reachable" in e.dataset) {
      e.removeAttribute("tabindex");
      delete e.dataset.reachable;
    }
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);
addEventListener("resize", () => setTimeout(reachable, 500)); // the theme has its own, later
document.addEventListener("toggle", reachable, true); // a fold that opens

// The page of maps follows the switch of colours, by the mark that it knows from JupyterLab. (From a file the browser keeps pages apart: there it
// follows the system.)
const dress = () => {
  for (const frame of document.querySelectorAll("iframe.map-page")) {
    const page = frame.contentDocument;
    if (page && page.body) page.body.dataset.jpThemeLight = String(document.documentElement.dataset.theme !== "dark");
  }
};
new MutationObserver(dress).observe(document.documentElement, { attributeFilter: ["data-theme"] });
document.addEventListener("load", dress, true); // frames, too
