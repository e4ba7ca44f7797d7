// @ts-check
/** The web part of ASCED: settings, and what two of its nodes show. All nodes work without it, too. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { addStyleSheet, chain } from "./dom.js"
import { RegionPanel } from "./panel.js"
import { CompareSlider } from "./slider.js"

const VIEWS = /** @type {Record<string, typeof RegionPanel | typeof CompareSlider>} */ ({
  ASCED_MaskPreview: RegionPanel,
  ASCED_Compare: CompareSlider,
})
const DEFAULTS = { live: true, colour: "#ff4000", opacity: 0.45 }
const ROUTE = "/asced/view_settings"
const VIEW = Symbol("ASCED view") // of a node

let ready = false
/** @type {Promise<void> | undefined} */
let styled

/**
 * @param {Record<string, any>} [changed] values by id that the page is about to store
 * @returns {typeof DEFAULTS}
 */
function viewSettings(changed = {}) {
  const get = (/** @type {string} */ id) => changed[id] ?? app.extensionManager.setting.get(id)
  const colour = `#${String(get("ASCED.Colour") ?? "").replace("#", "")}`
  return {
    live: get("ASCED.Live") ?? DEFAULTS.live,
    colour: /^#[0-9a-f]{6}$/i.test(colour) ? colour : DEFAULTS.colour,
    opacity: Math.min(1, Math.max(0, Number(get("ASCED.Opacity") ?? DEFAULTS.opacity))),
  }
}

/** Tells the server, which draws the live preview, how this page wants to see it. */
async function tellServer(settings = viewSettings()) {
  const client_id = api.clientId ?? api.initialClientId
  if (!client_id) return
  const body = JSON.stringify({ client_id, ...settings })
  await api.fetchApi(ROUTE, { method: "POST", headers: { "Content-Type": "application/json" }, body })
}

/** @returns {boolean} */
function asUsual() {
  return JSON.stringify(viewSettings()) === JSON.stringify(DEFAULTS)
}

/** @param {string} id @returns {(value: any) => void} what the page calls before it stores the value */
function changing(id) {
  return (value) => {
    if (!ready) return
    const settings = viewSettings({ [id]: value })
    paint(settings)
    void tellServer(settings)
  }
}

function paint({ colour, opacity } = viewSettings()) {
  document.documentElement.style.setProperty("--asced-colour", colour)
  document.documentElement.style.setProperty("--asced-opacity", `${opacity * 100}%`)
}

app.registerExtension({
  name: "asced",
  settings: [
    {
      id: "ASCED.Opacity",
      category: ["ASCED", "View", "Opacity"],
      name: "Opacity of the artifact map",
      tooltip: "In the live preview and in the panel of ASCED Mask Preview.",
      type: "slider",
      attrs: { min: 0, max: 1, step: 0.05 },
      defaultValue: DEFAULTS.opacity,
      onChange: changing("ASCED.Opacity"),
    },
    {
      id: "ASCED.Colour",
      category: ["ASCED", "View", "Colour"],
      name: "Colour of the artifact map",
      tooltip: "The first colour is told apart from skin, sky and leaves, and by most colour-blind eyes.",
      type: "color",
      defaultValue: DEFAULTS.colour.slice(1),
      onChange: changing("ASCED.Colour"),
    },
    {
      id: "ASCED.Live",
      category: ["ASCED", "View", "Live"],
      name: "Show the artifact map while sampling",
      tooltip: "Words on the node, and the map in ComfyUI's preview where previews are on. The result is the same.",
      type: "boolean",
      defaultValue: DEFAULTS.live,
      onChange: changing("ASCED.Live"),
    },
  ],
  aboutPageBadges: [{ label: "ASCED", url: "https://github.com/asced/comfyui-asced", icon: "pi pi-github" }],

  setup() {
    ready = true
    let told = asUsual() // the server knows the defaults, and the style sheet does
    if (!told) paint()
    const tell = () => {
      if (told || !(api.clientId ?? api.initialClientId)) return
      told = true
      void tellServer()
    }
    api.addEventListener("status", tell) // the first one brings this page's id
    api.addEventListener("reconnected", () => {
      if (!asUsual()) void tellServer()
    })
    tell()
  },

  nodeCreated(/** @type {any} */ node) {
    const View = VIEWS[node.comfyClass]
    if (!View) return
    styled ??= addStyleSheet() // not before: it makes the page lay itself out anew
    const view = new View(node)
    node[VIEW] = view
    chain(node, "onExecuted", (/** @type {any} */ output) => view.show(output))
    chain(node, "onRemoved", () => view.dispose())
  },

  loadedGraphNode(/** @type {any} */ node) {
    // a workflow that comes back into view brings its last results, a moment after its nodes
    if (node[VIEW]) setTimeout(() => node[VIEW].show(app.nodeOutputs?.[String(node.id)]), 100)
  },
})
