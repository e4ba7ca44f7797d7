// @ts-check
/** The step bar of ASCED_MaskPreview's panel: one bar per step, walked along by pointer or keys. */

import { element } from "./dom.js"
import { text } from "./text.js"

/** @typedef {import("./panel.js").Run} Run @typedef {import("./panel.js").Step} Step */

export class StepBar {
  /** @param {(place: number | null) => void} onGo index in the timeline; null: no step */
  constructor(onGo) {
    /** @type {Step[]} */
    this.line = []
    /** @type {number | null} */
    this.active = null
    this.root = element("div", "asced-steps", { role: "slider", tabindex: "0", "aria-label": text("steps") })
    this.#listen(onGo)
  }

  /** Marks a step. @param {number | null} place @returns {string} what happened there; empty for no step */
  goTo(place) {
    this.active = place
    const step = place === null ? undefined : this.line[place]
    this.root.querySelectorAll(".asced-step").forEach((bar, i) => bar.classList.toggle("asced-active", i === place))
    const description = step ? describe(step) : ""
    this.root.setAttribute("aria-valuenow", String(step ? step.step + 1 : 0))
    this.root.setAttribute("aria-valuetext", description || text("no_step"))
    return description
  }

  /** @param {Run} run @param {{timeline: Step[]}} image */
  draw(run, { timeline }) {
    this.line = timeline
    const largest = Math.max(...timeline.map((step) => step.mean ?? 0), 1e-9)
    const decisions = run.corrected_steps.length ? run.corrected_steps : [run.decision]
    const bars = timeline.map((step) => {
      const bar = element("span", "asced-step")
      bar.style.setProperty("--asced-height", `${Math.max(2, ((step.mean ?? 0) / largest) * 100)}%`)
      bar.classList.toggle("asced-watched", step.step >= run.window[0] && step.step <= run.window[1])
      bar.classList.toggle("asced-decision", decisions.includes(step.step))
      return bar
    })
    this.root.replaceChildren(...bars)
    this.root.setAttribute("aria-valuemin", "1")
    this.root.setAttribute("aria-valuemax", String(run.steps))
    this.root.hidden = !bars.length
  }

  /** @param {(place: number | null) => void} onGo */
  #listen(onGo) {
    const at = (/** @type {PointerEvent} */ event) => {
      const count = this.line.length
      const { left, width } = this.root.getBoundingClientRect()
      return count ? Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * count))) : null
    }
    this.root.addEventListener("pointermove", (event) => onGo(at(event)))
    this.root.addEventListener("pointerleave", () => onGo(null))
    this.root.addEventListener("blur", () => onGo(null))
    this.root.addEventListener("focus", () => {
      if (this.active === null) onGo(this.#firstWatched())
    })
    this.root.addEventListener("keydown", (event) => {
      const count = this.line.length
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
      onGo(places[event.key])
    })
  }

  /** @returns {number | null} */
  #firstWatched() {
    const place = this.line.findIndex((step) => step.share !== null)
    return place < 0 ? null : place
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
