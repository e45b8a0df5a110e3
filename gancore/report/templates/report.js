"use strict";

// The slider through training: one picture is shown at a time, all of them are in the page.
for (const film of document.querySelectorAll("[data-film]")) {
  const frames = [...film.querySelectorAll("img")];
  const slider = film.querySelector("input");
  const output = film.querySelector("output");
  const button = film.querySelector("button");
  const label = button.getAttribute("aria-label").replace(/^Play/, "");
  let timer = null;

  const show = (number) => {
    frames.forEach((frame, at) => { frame.hidden = at !== number; });
    slider.value = number;
    output.value = frames[number].dataset.time;
    slider.setAttribute("aria-valuetext", frames[number].dataset.time);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.firstElementChild.textContent = "▶";
    button.setAttribute("aria-label", `Play${label}`);
  };
  const play = () => {
    if (Number(slider.value) === frames.length - 1) show(0);
    button.firstElementChild.textContent = "❚❚";
    button.setAttribute("aria-label", `Pause${label}`);
    timer = setInterval(() => {
      show(Number(slider.value) + 1);
      if (Number(slider.value) === frames.length - 1) stop();
    }, 350);
  };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => { if (timer) stop(); else play(); });
  show(frames.length - 1);
}

// The latent map: the canvas shows the tile below the pointer, enlarged.
for (const map of document.querySelectorAll("[data-map]")) {
  const side = Number(map.dataset.side);
  const [width, height] = [Number(map.dataset.width), Number(map.dataset.height)];
  const pad = map.querySelector(".pad");
  const sprites = [...pad.querySelectorAll("img")];
  const cursor = pad.querySelector(".cursor");
  const canvas = map.querySelector("canvas");
  const place = map.querySelector(".place");
  const names = [...map.querySelectorAll(".classes label")].map((one) => one.textContent.trim());
  let [column, row, shown] = [Math.floor(side / 2), Math.floor(side / 2), 0];

  const draw = () => {
    sprites.forEach((sprite, at) => { sprite.hidden = at !== shown; });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    // Tiles of a picture that was reduced for the page need not have a whole number of pixels.
    const sprite = sprites[shown];
    const [wide, high] = [sprite.naturalWidth / side, sprite.naturalHeight / side];
    pen.drawImage(sprite, column * wide, row * high, wide, high, 0, 0, width, height);
    cursor.style.left = `${(100 * column) / side}%`;
    cursor.style.top = `${(100 * row) / side}%`;
    cursor.style.width = cursor.style.height = `${100 / side}%`;
    const of = names.length ? `${names[shown]}, ` : "";
    place.textContent = `${of}column ${column + 1} of ${side}, row ${row + 1} of ${side}`;
  };
  const within = (value) => Math.max(0, Math.min(side - 1, value));
  const follow = (event) => {
    const box = pad.getBoundingClientRect();
    column = within(Math.floor(((event.clientX - box.left) / box.width) * side));
    row = within(Math.floor(((event.clientY - box.top) / box.height) * side));
    draw();
  };
  pad.addEventListener("pointermove", follow);
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event); });
  pad.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    column = within(column + move[0]);
    row = within(row + move[1]);
    draw();
  });
  map.querySelectorAll(".classes input").forEach((input, at) => {
    input.addEventListener("change", () => { shown = at; draw(); });
  });
  Promise.all(sprites.map((sprite) => sprite.decode().catch(() => null))).then(draw);
}
