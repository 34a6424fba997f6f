"""One way to put a small ES module into a notebook: live, on a static page, and as an image.

A module of our own exports `render({model, el})` and draws into `el` what the state says, as anywidget defines it. Here
its class says which traits are its state, and the notebook gets a bundle of four forms, of which each reader shows one:

    widget view   JupyterLab with a kernel: the module, mounted by anywidget
    text/html     static pages: the module and its seeded state in an <iframe srcdoc>, no kernel, no network
                  where a host strips the frame, as code hosts and untrusted notebooks do, the image under it stays
    image/png     what takes no HTML
    text/plain    readers without images
"""

from __future__ import annotations

import base64
import html
import json
from typing import Any

import anywidget

from fcnbook import draw

# Alone, the page is light or dark as the reader prefers; in a frame it takes ink and scheme of the page around it.
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
html {{ color-scheme: light dark; color: #1f1f24; background: transparent; }}
body {{ margin: 2px; overflow: hidden; }}
@media (prefers-color-scheme: dark) {{ html {{ color: #e4e4e8; }} }}
</style></head><body><div id="place"></div><script type="module">
{module}
class SeededModel {{
  constructor(state) {{ this.state = state; this.listeners = new Map(); }}
  get(name) {{ return this.state[name]; }}
  set(name, value) {{
    this.state[name] = value;
    for (const listener of this.listeners.get(`change:${{name}}`) ?? []) listener();
  }}
  save_changes() {{}}
  on(name, listener) {{ this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]); }}
  off(name, listener) {{
    this.listeners.set(name, (this.listeners.get(name) ?? []).filter((known) => known !== listener));
  }}
}}
const place = document.getElementById("place"), frame = window.frameElement;
render({{ model: new SeededModel({state}), el: place }});
if (frame) {{
  const around = getComputedStyle(frame);
  Object.assign(document.documentElement.style, {{ color: around.color, colorScheme: around.colorScheme }});
  const fit = () => {{ frame.style.height = `${{Math.ceil(place.getBoundingClientRect().height) + 6}}px`; }};
  new ResizeObserver(fit).observe(place);
  fit();
  const still = frame.parentElement.querySelector("img");
  if (still) still.style.display = "none";
}}
</script></body></html>"""


class Mounted(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget's base has no annotations
    """A widget of one of our ES modules. A subclass sets `_esm` to the file, and names the traits of its state.

    Attributes:
        seeded: names of the synchronised traits that the module reads; their values go into the static page.
    """

    seeded: tuple[str, ...] = ()

    def still_image(self) -> draw.RGBImage:
        """What readers see who can move nothing."""
        raise NotImplementedError

    def summary(self) -> str:
        """What a reader without images gets: title of the frame, and the text of the image."""
        raise NotImplementedError

    def static_page(self) -> str:
        """The module with its present state as one HTML page, which needs nothing else."""
        state = json.dumps({name: getattr(self, name) for name in self.seeded}, ensure_ascii=False)
        state = state.replace("<", "\\u003c")  # no text of a chapter can end the script
        return _PAGE.format(title=html.escape(self.summary()), module=self._esm, state=state)

    def iframe(self, still_png: str) -> str:
        """The page as an <iframe srcdoc>, and an image (base64 of a PNG) that it hides as soon as it runs."""
        name = html.escape(self.summary(), quote=True)
        page = html.escape(self.static_page(), quote=False).replace('"', "&quot;")
        return (
            f'<div><iframe title="{name}" style="width:100%;height:0;border:0" srcdoc="{page}"></iframe>'
            f'<img alt="{name}" style="max-width:100%" src="data:image/png;base64,{still_png}"></div>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # IPython takes both
        live: Any = super()._repr_mimebundle_(**kwargs) or {}
        if isinstance(live, tuple):  # data and metadata
            live = live[0]
        png = draw.png_bytes(self.still_image(), compression=9, few_colours=True)
        still = base64.b64encode(png).decode()
        own = {"text/plain": self.summary(), "text/html": self.iframe(still), "image/png": still}
        return {**live, **own}
