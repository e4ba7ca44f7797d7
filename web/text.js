// @ts-check
/** The texts of the panel, the slider and the settings, in the language of the page. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

/** English, and the keys. Translations: locales/<language>/main.json, under "asced". */
const ENGLISH = {
  previous_image: "Previous image",
  next_image: "Next image",
  image: "Image {index}",
  image_of: "Image {index} of {count}",

  panel: "Artifact regions and steps",
  panel_empty: "Run to see regions and steps.",
  panel_hint: "Click a region to exclude it from the mask. Point at a step to see what changed.",
  panel_linked: "exclude is set by another node: change it there.",
  run_again: "Run again",
  edit_mask: "Edit mask",
  edit_mask_hint: "Opens this image with its mask in ComfyUI's mask editor, from a Load Image node beside this one.",
  edit_mask_gone: "The image is no longer on the server: run again.",
  mask_of_image: "Mask of image {index}",
  clean: "clean",
  not_measurable: "not measurable: NaN or infinite values",
  not_looked_at: "not looked at",
  too_large: "only regions larger than max_area",
  regions: "regions: {count}, score: {score}",
  region: "Region {number}, score {score}, {state}",
  confidence: "confidence {percent}%",
  in_mask: "in the mask",
  excluded: "excluded from the mask",
  below_min_score: "not in the mask: below min_score",
  steps: "Sampling steps: change at each step",
  no_step: "no step selected",
  step: "Step {step}, {phase}",
  phase_Profiling: "rough shape",
  phase_Mutation: "forming",
  phase_Refinement: "details",
  mean_change: "mean change {value}",
  threshold: "threshold {value}",
  abnormal: "{percent}% above it",

  slider: "Before and after",
  slider_empty: "Run to compare.",
  slider_handle: "Divider between before and after",
  slider_value: "{percent}% before",
  before: "before",
  after: "after",

  replace: "Replace with {name}",
}

/** English of the settings, by id. ComfyUI translates them: locales/<language>/settings.json. */
export const SETTINGS = {
  "ASCED.Opacity": {
    name: "Opacity of the artifact map",
    tooltip: "In the live preview and in the panel of ASCED Mask Preview.",
  },
  "ASCED.Color": {
    name: "Color of the artifact map",
    tooltip: "The default stands out against skin, sky and foliage, and is visible to most color-blind people.",
  },
  "ASCED.Live": {
    name: "Show the artifact map while sampling",
    tooltip: "Shows progress on the node, and the map over the preview if previews are on. The result stays the same.",
  },
}

/** @type {Record<string, Record<string, unknown>>} by language and key */
let translations = {}
/** @type {Promise<void> | undefined} */
let loading

/** @returns {string} as ComfyUI writes it: en, zh, zh-TW, pt-BR */
function language() {
  return String(app.extensionManager.setting.get("Comfy.Locale") || "en")
}

/** Loads the translations once, if the page is not in English. Without them, the texts are English. */
export function loadTexts() {
  if (language().split("-")[0] !== "en") loading ??= load()
  return loading
}

async function load() {
  try {
    const answer = await api.fetchApi("/i18n")
    if (!answer.ok) throw new Error(`/i18n: ${answer.status}`)
    const packs = Object.entries(await answer.json()) // the texts of all packs
    translations = Object.fromEntries(packs.map(([name, texts]) => [name, texts?.asced ?? {}]))
  } catch (error) {
    console.warn("ASCED shows English texts.", error)
  }
}

/**
 * @param {keyof typeof ENGLISH} key
 * @param {Record<string, string | number>} [values] for the {places} in the text
 * @returns {string}
 */
export function text(key, values = {}) {
  const name = language()
  const translated = [name, name.split("-")[0]].map((one) => translations[one]?.[key]).find(Boolean)
  const template = typeof translated === "string" ? translated : ENGLISH[key]
  return template.replace(/\{(\w+)\}/g, (place, value) => String(values[value] ?? place))
}
