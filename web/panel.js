// @ts-check
/** The panel of ASCED_MaskPreview: regions to exclude from the mask, and the steps of the run. */

import { app } from "../../scripts/app.js"
import { button, element, fileUrl, Pager, placeOnNode, settle, shapes } from "./dom.js"
import { editMask } from "./mask_editor.js"
import { StepBar } from "./steps.js"
import { text } from "./text.js"

/**
 * @typedef {{step: number, phase: "Profiling" | "Mutation" | "Refinement", mean: number | null,
 *   threshold: number | null, share: number | null}} Step
 * @typedef {"not_measurable" | "marked" | "not_looked_at" | "too_large" | "clean"} State
 * @typedef {{box: number[], score: number, confidence: number | null, outline: string}} Region box: left, top, right, bottom
 *   as shares of the image; outline: an SVG path in pixels of the mask
 * @typedef {{index: number, score: number, state: State, corrected: boolean,
 *   picture: import("./dom.js").FileRef | null, strip: import("./dom.js").FileRef | null,
 *   editable: import("./dom.js").FileRef | null, timeline: Step[], regions: Region[]}} Picture
 * @typedef {{steps: number, window: number[], decision: number | null, corrected_steps: number[],
 *   aspect: number, size: number[], settings: Record<string, number | string>, images: Picture[]}} Run
 */

const HEIGHT = 240 // pixels, minimum
const EMPTY = 24
const EXCLUDE = "exclude"
const SHAPING = [EXCLUDE, "min_score", "grow_px", "feather_px"]

export class RegionPanel {
  /** @param {any} node */
  constructor(node) {
    this.node = node
    /** @type {Run | null} */
    this.run = null
    this.root = element("div", "asced-panel", { role: "group", "aria-label": text("panel") })
    this.pager = new Pager(() => this.#draw())
    this.stage = element("div", "asced-stage")
    this.frame = element("div", "asced-frame")
    this.picture = element("img", "asced-picture", { alt: "", draggable: "false" })
    this.change = element("div", "asced-change")
    this.mask = element("div", "asced-mask") // of the widgets as they are now
    this.regions = element("div", "asced-regions")
    this.frame.append(this.picture, this.change, this.mask, this.regions)
    this.stage.append(this.frame)
    this.steps = new StepBar((place) => this.#goTo(place))
    this.label = element("div", "asced-text")
    const run = () => app.extensionManager.command.execute("Comfy.QueuePrompt")
    this.again = button("asced-button asced-again", text("run_again"), run)
    this.edit = button("asced-button", text("edit_mask"), () => this.#edit())
    this.edit.title = text("edit_mask_hint")
    this.root.append(this.pager.root, this.stage, this.steps.root, this.label, this.again, this.edit)
    this.picture.addEventListener("load", () =>
      this.frame.classList.toggle("asced-small", this.picture.naturalWidth < 256),
    )
    this.#listenToWidgets()
    placeOnNode(node, this.root, "asced_panel", { getMinHeight: () => (this.run ? HEIGHT : EMPTY) })
    this.#draw()
  }

  /** @param {any} output what the node sent to the page */
  show(output) {
    const sent = output?.asced_panel?.[0]
    if (!sent) return settle(this.node, this.root)
    const run = { ...sent, images: sent.images.map((/** @type {any} */ image) => withSteps(sent, image)) }
    if (!this.run) {
      const scores = run.images.map((/** @type {Picture} */ image) => image.score)
      this.pager.index = scores.indexOf(Math.max(...scores)) // the image with the strongest region
    }
    this.run = run
    this.#draw()
    settle(this.node, this.root)
  }

  dispose() {
    this.picture.removeAttribute("src")
    this.change.style.backgroundImage = ""
    this.mask.replaceChildren()
    this.regions.replaceChildren()
    this.steps.root.replaceChildren()
    this.run = null
  }

  /** @returns {Picture | undefined} */
  get image() {
    return this.run?.images[this.pager.index]
  }

  /** @param {string} name @returns {any} */
  #widget(name) {
    return this.node.widgets?.find((/** @type {any} */ widget) => widget.name === name)
  }

  /** @param {string} name @returns {boolean} whether another node sets this widget */
  #linked(name) {
    return this.node.inputs?.find((/** @type {any} */ input) => input.widget?.name === name)?.link != null
  }

  /** @returns {Set<string>} names of the excluded regions, as image:region */
  #excluded() {
    const names = String(this.#widget(EXCLUDE)?.value ?? "").matchAll(/([1-9]\d*):([1-9]\d*)/g)
    return new Set([...names].map(([, image, region]) => `${Number(image)}:${Number(region)}`))
  }

  /** Excludes a region, or includes it again. @param {string} name */
  #toggle(name) {
    const widget = this.#widget(EXCLUDE)
    if (!widget) return
    if (this.#linked(EXCLUDE)) {
      this.label.textContent = text("panel_linked")
      return
    }
    const names = this.#excluded()
    if (!names.delete(name)) names.add(name)
    const numbers = (/** @type {string} */ one) => one.split(":").map(Number)
    const sorted = [...names].sort((a, b) => numbers(a)[0] - numbers(b)[0] || numbers(a)[1] - numbers(b)[1])
    widget.value = sorted.join(", ")
    widget.callback?.(widget.value)
    this.#mark()
    app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.() // for undo and the unsaved marker
  }

  async #edit() {
    const { index, editable } = this.image ?? {}
    if (index === undefined || !editable) return
    this.edit.disabled = true // until the editor is open
    const done = await editMask(this.node, editable, text("mask_of_image", { index: index + 1 }))
    this.edit.disabled = false
    if (!done) this.label.textContent = text("edit_mask_gone")
  }

  #listenToWidgets() {
    for (const name of SHAPING) {
      const widget = this.#widget(name)
      if (!widget) continue
      const original = widget.callback
      widget.callback = (/** @type {any[]} */ ...given) => {
        original?.apply(widget, given)
        this.#mark()
      }
    }
  }

  /** Shows the change of a step instead of the picture. @param {number | null} place in the timeline; null: no step */
  #goTo(place) {
    const line = this.image?.timeline ?? []
    this.change.hidden = place === null || !line[place] || !this.image?.strip
    this.mask.hidden = !this.change.hidden
    if (place !== null && line.length > 1) {
      this.change.style.backgroundPosition = `${(place / (line.length - 1)) * 100}% 0`
    }
    this.label.textContent = this.steps.goTo(place) || text("panel_hint")
  }

  #draw() {
    const { run, image } = this
    this.pager.reset(run?.images.length ?? 0)
    for (const part of [this.stage, this.steps.root, this.label]) part.hidden = !image
    this.#offer()
    if (!run || !image) {
      this.pager.label.textContent = text("panel_empty")
      return
    }
    const marks = { count: image.regions.length, score: image.score.toFixed(1) }
    const found = image.state === "marked" ? text("regions", marks) : text(image.state)
    const which = text("image_of", { index: image.index + 1, count: run.images.length })
    this.pager.label.textContent = `${which} · ${found}`
    this.frame.style.setProperty("--asced-aspect", String(run.aspect))
    this.picture.hidden = !image.picture
    this.picture.alt = text("image", { index: image.index + 1 })
    if (image.picture) this.picture.src = fileUrl(image.picture)
    const strip = fileUrl(image.strip)
    this.change.style.backgroundImage = strip && `url("${strip}")`
    this.change.style.backgroundSize = `${image.timeline.length * 100}% 100%`
    this.#drawRegions(image)
    this.steps.draw(run, image)
    this.#goTo(null)
  }

  /** @param {Picture} image */
  #drawRegions(image) {
    const boxes = image.regions.map(({ box: [left, top, right, bottom] }, place) => {
      const button = element("button", "asced-region", { type: "button" })
      const share = (/** @type {number} */ part) => `${part * 100}%`
      Object.assign(button.style, {
        left: share(left),
        top: share(top),
        width: share(right - left),
        height: share(bottom - top),
        zIndex: String(1 + Math.round((1 - (right - left) * (bottom - top)) * 1000)), // small ones stay on top
      })
      const badge = element("span", "asced-badge")
      badge.textContent = String(place + 1)
      button.append(badge)
      const name = `${image.index + 1}:${place + 1}`
      button.dataset.name = name
      button.addEventListener("click", () => this.#toggle(name))
      button.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") event.stopPropagation() // not for the canvas
      })
      return button
    })
    const [height, width] = this.run?.size ?? [1, 1]
    this.mask.replaceChildren(shapes(image.regions.map((region) => region.outline), width, height))
    this.regions.replaceChildren(...boxes)
    this.#mark()
  }

  /** @returns {boolean} whether the mask would be another one if the node ran again */
  get outdated() {
    const made = Object.entries(this.run?.settings ?? {}).filter(([name]) => !this.#linked(name))
    return made.some(([name, value]) => String(this.#widget(name)?.value ?? value) !== String(value))
  }

  /** Shows the button that fits: a new mask has to be made before it can be edited. */
  #offer() {
    this.again.hidden = !this.image || !this.outdated
    this.edit.hidden = !this.image?.editable || this.outdated
  }

  /** Shows which regions are in the mask. */
  #mark() {
    this.#offer()
    const grow = Number(this.#widget("grow_px")?.value ?? 0)
    const drawn = this.mask.querySelectorAll("path")
    const names = this.#excluded()
    const least = Number(this.#widget("min_score")?.value ?? 0)
    this.regions.querySelectorAll("button").forEach((button, place) => {
      const region = this.image?.regions[place]
      if (!region) return
      const out = names.has(button.dataset.name ?? "")
      const weak = region.score < least
      const state = text(out ? "excluded" : weak ? "below_min_score" : "in_mask")
      button.classList.toggle("asced-out", out || weak)
      drawn[place].style.display = out || weak ? "none" : ""
      drawn[place].style.strokeWidth = String(2 * grow)
      button.setAttribute("aria-pressed", String(out))
      const sure = region.confidence === null ? [] : [text("confidence", { percent: Math.round(100 * region.confidence) })]
      button.title = [text("region", { number: place + 1, score: region.score.toFixed(1), state }), ...sure].join(", ")
      button.setAttribute("aria-label", button.title)
    })
  }
}

/** The numbers of an image, which are sent by column, as steps. @param {any} sent @param {any} image @returns {Picture} */
function withSteps(sent, image) {
  const { mean, threshold, share } = image.timeline
  const timeline = sent.trace_steps.map((/** @type {number} */ step, /** @type {number} */ i) => {
    return { step, phase: sent.phases[i], mean: mean[i], threshold: threshold[i], share: share[i] }
  })
  return { ...image, timeline }
}
