// Shows the selected images of each comparison; reports the divider's position to screen readers.
for (const figure of document.querySelectorAll(".comparison")) {
  const slider = figure.querySelector("img-comparison-slider");
  const images = figure.querySelectorAll(".images img");
  const slots = { left: "first", right: "second" };
  for (const select of figure.querySelectorAll("select")) {
    const slot = slider.querySelector(`[slot=${slots[select.dataset.side]}]`);
    const update = () => {
      const image = images[select.value];
      slot.src = image.src;
      slot.alt = image.alt;
      slot.className = image.className;
    };
    select.addEventListener("change", update);
    update();
  }
  const report = () => slider.setAttribute("aria-valuenow", Math.round(slider.value));
  slider.addEventListener("slide", report);
  report();
}
