// The explorer: controls, a figure that answers, a sentence. Mounted by fcnbook/viewers/_mount.py, live and without a kernel.
//
// State, written by fcnbook/viewers/explorer.py: {title, look, alt, sprite, width, height, columns, controls, sentences}.
// Frame k lies in the sprite at column k % columns and row k / columns; frames are ordered by the choices, the last
// control changing fastest. "choice" holds one position per control.

const STYLE = `
.fcnbook-explorer { box-sizing: border-box; margin: 0; padding: 0.6rem 0.8rem 0.8rem;
  border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: 6px;
  font: 15px/1.45 system-ui, sans-serif; min-width: 0; }
.fcnbook-explorer * { box-sizing: border-box; }
.fcnbook-explorer legend { padding: 0 0.4rem; font-weight: 600; }
.fcnbook-explorer p { margin: 0.35rem 0; }
.fcnbook-explorer .controls { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; margin: 0.3rem 0 0.5rem; }
.fcnbook-explorer label { display: flex; align-items: center; gap: 0.5rem; min-height: 1.9rem; }
.fcnbook-explorer input, .fcnbook-explorer select { accent-color: #0072b2; font: inherit; margin: 0; }
.fcnbook-explorer input[type=range] { width: 11rem; max-width: 42vw; }
.fcnbook-explorer output { min-width: 3.2em; font-variant-numeric: tabular-nums; font-weight: 600; }
.fcnbook-explorer canvas { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 3px; }
.fcnbook-explorer .answer { min-height: 1.45em; }
.fcnbook-explorer :focus-visible { outline: 2px solid #d55e00; outline-offset: 2px; }
`;

function control({ label, kind, texts }, position, changed) {
  const line = document.createElement("label");
  const name = document.createElement("span");
  name.textContent = label;
  const input = document.createElement(kind === "select" ? "select" : "input");
  const shown = document.createElement("output");
  input.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys for its own
  if (kind === "select") {
    for (const text of texts) input.append(new Option(text));
  } else if (kind === "check") {
    input.type = "checkbox";
  } else {
    Object.assign(input, { type: "range", min: 0, max: texts.length - 1, step: 1 });
  }
  const read = () => (kind === "select" ? input.selectedIndex : kind === "check" ? Number(input.checked) : Number(input.value));
  const write = (value) => {
    if (kind === "select") input.selectedIndex = value;
    else if (kind === "check") input.checked = Boolean(value);
    else {
      input.value = value;
      shown.textContent = texts[value];
      input.setAttribute("aria-valuetext", texts[value]);
    }
  };
  write(position);
  input.addEventListener(kind === "range" ? "input" : "change", () => changed(read()));
  line.append(...(kind === "check" ? [input, name] : kind === "range" ? [name, input, shown] : [name, input]));
  return { line, write };
}

function render({ model, el }) {
  const state = model.get("state");
  const box = document.createElement("fieldset");
  box.className = "fcnbook-explorer";
  box.style.maxWidth = `max(${state.width + 30}px, 34rem)`;
  const style = document.createElement("style");
  style.textContent = STYLE;
  const legend = document.createElement("legend");
  legend.textContent = state.title;
  const controls = document.createElement("div");
  controls.className = "controls";
  const canvas = document.createElement("canvas");
  canvas.width = state.width;
  canvas.height = state.height;
  canvas.setAttribute("role", "img");
  const answer = document.createElement("p");
  answer.className = "answer";
  answer.setAttribute("aria-live", "polite");
  const look = document.createElement("p");
  look.textContent = state.look;

  const change = (place, value) => {
    const choice = [...model.get("choice")];
    choice[place] = value;
    model.set("choice", choice);
    model.save_changes();
  };
  const inputs = state.controls.map((item, place) => control(item, model.get("choice")[place], (value) => change(place, value)));
  controls.append(...inputs.map((input) => input.line));
  box.append(legend, ...(state.look ? [look] : []), controls, canvas, answer);
  el.append(style, box);

  const sprite = new Image();
  const show = () => {
    const choice = model.get("choice");
    const frame = choice.reduce((index, value, place) => index * state.controls[place].texts.length + value, 0);
    inputs.forEach((input, place) => input.write(choice[place]));
    answer.textContent = state.sentences[frame];
    canvas.setAttribute("aria-label", `${state.alt} ${state.sentences[frame]}`.trim());
    const left = (frame % state.columns) * state.width;
    const top = Math.floor(frame / state.columns) * state.height;
    const size = [state.width, state.height];
    canvas.getContext("2d").drawImage(sprite, left, top, ...size, 0, 0, ...size);
    canvas.dataset.frame = frame;
  };
  sprite.src = `data:image/png;base64,${state.sprite}`;
  sprite.decode().then(() => {
    show();
    model.on("change:choice", show);
  });
  return () => model.off("change:choice", show);
}

export default { render };
