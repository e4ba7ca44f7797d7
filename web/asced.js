// @ts-check
/** The web part of ASCED: settings, result texts on the nodes, and the views of two of them. Every node also works without it. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { addStyleSheet, chain } from "./dom.js"
import { RegionPanel } from "./panel.js"
import { replacing } from "./replace.js"
import { CompareSlider } from "./slider.js"
import { loadTexts, SETTINGS } from "./text.js"
import { followJobs, addResultText } from "./result_text.js"

const VIEWS = /** @type {Record<string, typeof RegionPanel | typeof CompareSlider>} */ ({
  ASCED_MaskPreview: RegionPanel,
  ASCED_Compare: CompareSlider,
})
const DEFAULTS = { live: true, color: "#ff4000", opacity: 0.45 }
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
  const color = `#${String(get("ASCED.Color") ?? "").replace("#", "")}`
  return {
    live: get("ASCED.Live") ?? DEFAULTS.live,
    color: /^#[0-9a-f]{6}$/i.test(color) ? color : DEFAULTS.color,
    opacity: Math.min(1, Math.max(0, Number(get("ASCED.Opacity") ?? DEFAULTS.opacity))),
  }
}

/** Sends the settings to the server, which draws the live preview for this page. */
async function sendSettings(settings = viewSettings()) {
  const client_id = api.clientId ?? api.initialClientId
  if (!client_id) return
  const body = JSON.stringify({ client_id, ...settings })
  await api.fetchApi(ROUTE, { method: "POST", headers: { "Content-Type": "application/json" }, body })
}

/** @returns {boolean} */
function areDefaults() {
  return JSON.stringify(viewSettings()) === JSON.stringify(DEFAULTS)
}

/** @param {string} id @returns {(value: any) => void} what the page calls before it stores the value */
function changing(id) {
  return (value) => {
    if (!ready) return
    const settings = viewSettings({ [id]: value })
    paint(settings)
    void sendSettings(settings)
  }
}

function paint({ color, opacity } = viewSettings()) {
  document.documentElement.style.setProperty("--asced-color", color)
  document.documentElement.style.setProperty("--asced-opacity", `${opacity * 100}%`)
}

app.registerExtension({
  name: "asced",
  ...replacing,
  settings: [
    {
      ...SETTINGS["ASCED.Opacity"],
      id: "ASCED.Opacity",
      category: ["ASCED", "Artifact map", "Opacity"],
      type: "slider",
      attrs: { min: 0, max: 1, step: 0.05 },
      defaultValue: DEFAULTS.opacity,
      onChange: changing("ASCED.Opacity"),
    },
    {
      ...SETTINGS["ASCED.Color"],
      id: "ASCED.Color",
      category: ["ASCED", "Artifact map", "Color"],
      type: "color",
      defaultValue: DEFAULTS.color.slice(1),
      onChange: changing("ASCED.Color"),
    },
    {
      ...SETTINGS["ASCED.Live"],
      id: "ASCED.Live",
      category: ["ASCED", "Artifact map", "Live"],
      type: "boolean",
      defaultValue: DEFAULTS.live,
      onChange: changing("ASCED.Live"),
    },
  ],
  aboutPageBadges: [{ label: "ASCED", url: "https://github.com/asced/comfyui-asced", icon: "pi pi-github" }],

  async setup() {
    ready = true
    let sent = areDefaults() // the server and the style sheet have the same defaults
    if (!sent) paint()
    const send = () => {
      if (sent || !(api.clientId ?? api.initialClientId)) return
      sent = true
      void sendSettings()
    }
    api.addEventListener("status", send) // the first one brings this page's id
    api.addEventListener("reconnected", () => {
      if (!areDefaults()) void sendSettings()
    })
    send()
    followJobs()
    await loadTexts()
  },

  beforeConfigureGraph: () => loadTexts(), // after a change of language, the page loads its workflow again

  nodeCreated(/** @type {any} */ node) {
    if (!node.comfyClass?.startsWith("ASCED_")) return
    styled ??= addStyleSheet() // not earlier: it makes the page compute its layout again
    addResultText(node)
    const View = VIEWS[node.comfyClass]
    if (!View) return
    const view = new View(node)
    node[VIEW] = view
    chain(node, "onExecuted", (/** @type {any} */ output) => view.show(output))
    chain(node, "onRemoved", () => view.dispose())
  },

  loadedGraphNode(/** @type {any} */ node) {
    // a workflow that is opened again has its last results, shortly after its nodes are created
    if (node[VIEW]) setTimeout(() => node[VIEW].show(app.nodeOutputs?.[String(node.id)]), 100)
  },
})
