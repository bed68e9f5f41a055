"use strict";
// Filter by verdict. Without scripts the bar stays hidden and everything is shown.
(function () {
  const bar = document.getElementById("filter");
  const marked = document.querySelectorAll("[data-verdicts]");
  const told = bar.querySelector(".shown");
  function show(verdict) {
    let claims = 0;
    marked.forEach(function (element) {
      const fits = verdict === "all" || element.dataset.verdicts.split(" ").includes(verdict);
      element.hidden = !fits;
      claims += fits && element.tagName === "ARTICLE" ? 1 : 0;
    });
    document.querySelectorAll(".chips li").forEach(function (chip) {
      chip.classList.toggle("faint", verdict !== "all" && !chip.classList.contains(verdict));
    });
    bar.querySelectorAll("button").forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.show === verdict));
    });
    told.textContent = verdict === "all" ? "" : claims + (claims === 1 ? " claim" : " claims");
  }
  bar.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (button) show(button.getAttribute("aria-pressed") === "true" ? "all" : button.dataset.show);
  });
  window.addEventListener("hashchange", function () {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.hidden) { show("all"); target.scrollIntoView(); }
  });
  bar.hidden = false;
})();
