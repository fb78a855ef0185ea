// Charts on paper: they are drawn again at the width of a sheet before printing, and at that of the screen after it.
"use strict";
(() => {
  const print = matchMedia("print");
  const fit = (onPaper) => {
    if (document.documentElement.classList.contains("paper") === onPaper) return;
    document.documentElement.classList.toggle("paper", onPaper);
    for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(chart, { autosize: true });
  };
  addEventListener("beforeprint", () => fit(true));
  addEventListener("afterprint", () => fit(false));
  print.addEventListener("change", (event) => fit(event.matches));
  fit(print.matches);
})();
