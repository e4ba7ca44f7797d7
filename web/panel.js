// @ts-check
/** The panel of ASCED_MaskPreview: regions to exclude from the mask, and the steps of the run. */

import { app } from "../../scripts/app.js"
import { element, fileUrl, Pager, placeOnNode, settle, shapes } from "./dom.js"
import { text } from "./text.js"

/**
 * @typedef {{step: number, phase: "Profiling" | "Mutation" | "Refinement", mean: number | null,
 *   threshold: number | null, share: number | null}} Step
 * @typedef {"not_measurable" | "marked" | "not_looked_at" | "too_large" | "clean"} State
 * @typedef {{box: number[], score: number, confidence: number | null, outline: string}} Region box: left, top, right, bottom
 *   as shares of the image; outline: an SVG path in pixels of the mask
 * @typedef {{index: number, score: number, state: State, corrected: boolean,
 *   picture: import("./dom.js").FileRef | null, strip: import("./dom.js").FileRef | null, timeline: Step[],
 *   regions: Region[]}} Picture
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
    /** @type {number | null} index in the timeline */
    this.active = null
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
    this.steps = element("div", "asced-steps", {
      role: "slider",
      tabindex: "0",
      "aria-label": text("steps"),
    })
    this.label = element("div", "asced-text")
    this.again = element("button", "asced-again", { type: "button" })
    this.again.textContent = text("run_again")
    this.again.addEventListener("click", () => app.extensionManager.command.execute("Comfy.QueuePrompt"))
    this.root.append(this.pager.root, this.stage, this.steps, this.label, this.again)
    this.picture.addEventListener("load", () =>
      this.frame.classList.toggle("asced-small", this.picture.naturalWidth < 256),
    )
    this.#listenToSteps()
    this.#listenToWidgets()
    placeOnNode(node, this.root, "asced_panel", { getMinHeight: () => (this.run ? HEIGHT : EMPTY) })
    this.#draw()
  }

  /** @param {any} output what the node sent to the page */
  show(output) {
    const run = output?.asced_panel?.[0]
    if (!run) return settle(this.node, this.root)
    if (!this.run) {
      const scores = run.images.map((/** @type {Picture} */ image) => image.score)
      this.pager.index = scores.indexOf(Math.max(...scores)) // the image with the strongest region
    }
    this.run = run
    this.active = null
    this.#draw()
    settle(this.node, this.root)
  }

  dispose() {
    this.picture.removeAttribute("src")
    this.change.style.backgroundImage = ""
    this.mask.replaceChildren()
    this.regions.replaceChildren()
    this.steps.replaceChildren()
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

  #listenToSteps() {
    const at = (/** @type {PointerEvent} */ event) => {
      const count = this.image?.timeline.length ?? 0
      const { left, width } = this.steps.getBoundingClientRect()
      return count ? Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * count))) : null
    }
    this.steps.addEventListener("pointermove", (event) => this.#goTo(at(event)))
    this.steps.addEventListener("pointerleave", () => this.#goTo(null))
    this.steps.addEventListener("blur", () => this.#goTo(null))
    this.steps.addEventListener("focus", () => {
      if (this.active === null) this.#goTo(this.#firstWatched())
    })
    this.steps.addEventListener("keydown", (event) => {
      const count = this.image?.timeline.length ?? 0
      const here = this.active ?? this.#firstWatched() ?? 0
      const places = /** @type {Record<string, number | null>} */ ({
        ArrowLeft: Math.max(0, here - 1),
        ArrowRight: Math.min(count - 1, here + 1),
        Home: 0,
        End: count - 1,
        Escape: null,
      })
      if (!count || !(event.key in places)) return
      event.preventDefault()
      event.stopPropagation()
      this.#goTo(places[event.key])
    })
  }

  /** @returns {number | null} */
  #firstWatched() {
    const place = this.image?.timeline.findIndex((step) => step.share !== null) ?? -1
    return place < 0 ? null : place
  }

  /** Shows the change of a step instead of the picture. @param {number | null} place in the timeline; null: no step */
  #goTo(place) {
    this.active = place
    const line = this.image?.timeline ?? []
    const step = place === null ? undefined : line[place]
    this.change.hidden = !step || !this.image?.strip
    this.mask.hidden = !this.change.hidden
    this.steps.querySelectorAll(".asced-step").forEach((bar, i) => bar.classList.toggle("asced-active", i === place))
    if (place !== null && line.length > 1) {
      this.change.style.backgroundPosition = `${(place / (line.length - 1)) * 100}% 0`
    }
    const description = step ? describe(step) : ""
    this.label.textContent = description || text("panel_hint")
    this.steps.setAttribute("aria-valuenow", String(step ? step.step + 1 : 0))
    this.steps.setAttribute("aria-valuetext", description || text("no_step"))
  }

  #draw() {
    const { run, image } = this
    this.pager.reset(run?.images.length ?? 0)
    for (const part of [this.stage, this.steps, this.label]) part.hidden = !image
    this.again.hidden = !image || !this.outdated
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
    this.#drawSteps(run, image)
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

  /** Shows which regions are in the mask. */
  #mark() {
    this.again.hidden = !this.outdated
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

  /** @param {Run} run @param {Picture} image */
  #drawSteps(run, image) {
    const largest = Math.max(...image.timeline.map((step) => step.mean ?? 0), 1e-9)
    const bars = image.timeline.map((step) => {
      const bar = element("span", "asced-step")
      bar.style.setProperty("--asced-height", `${Math.max(2, ((step.mean ?? 0) / largest) * 100)}%`)
      bar.classList.toggle("asced-watched", step.step >= run.window[0] && step.step <= run.window[1])
      const decisions = run.corrected_steps.length ? run.corrected_steps : [run.decision]
      bar.classList.toggle("asced-decision", decisions.includes(step.step))
      return bar
    })
    this.steps.replaceChildren(...bars)
    this.steps.setAttribute("aria-valuemin", "1")
    this.steps.setAttribute("aria-valuemax", String(run.steps))
    this.steps.hidden = !bars.length
  }
}

/** @param {Step} step @returns {string} */
function describe(step) {
  const parts = [
    text("step", { step: step.step + 1, phase: text(`phase_${step.phase}`) }),
    step.mean === null ? text("not_measurable") : text("mean_change", { value: step.mean.toPrecision(2) }),
  ]
  if (step.threshold !== null) parts.push(text("threshold", { value: step.threshold.toPrecision(2) }))
  if (step.share !== null) parts.push(text("abnormal", { percent: (step.share * 100).toFixed(1) }))
  return parts.join(" · ")
}
