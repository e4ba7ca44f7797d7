// @ts-check
/** Before and after in the same frame, with a divider to drag: the slider of ASCED_Compare. */

import { app } from "../../scripts/app.js"
import { element, fileUrl, Pager, placeOnNode, settle, shapes } from "./dom.js"
import { text } from "./text.js"

const HEIGHT = 220 // pixels, minimum
const EMPTY = 24

/**
 * @typedef {import("./dom.js").FileRef} FileRef
 * @typedef {{before: FileRef[], after: FileRef[], outlines: string[], first: number}} Pairs
 */

export class CompareSlider {
  /** @param {any} node */
  constructor(node) {
    this.node = node
    /** @type {Pairs | null} */
    this.pairs = null
    this.root = element("div", "asced-panel", { role: "group", "aria-label": text("slider") })
    this.pager = new Pager(() => this.#draw())
    const stage = element("div", "asced-stage asced-wide")
    this.frame = element("div", "asced-frame asced-compare")
    this.after = element("img", "asced-picture", { alt: text("after"), draggable: "false" })
    this.before = element("img", "asced-picture asced-before", { alt: text("before"), draggable: "false" })
    this.marks = element("div", "asced-marks")
    this.range = element("input", "asced-range", {
      type: "range",
      min: "0",
      max: "100",
      step: "1",
      value: "50",
      "aria-label": text("slider_handle"),
    })
    const labels = /** @type {const} */ (["before", "after"]).map((side) => {
      const label = element("span", `asced-label asced-label-${side}`)
      label.textContent = text(side)
      return label
    })
    this.frame.append(this.after, this.before, this.marks, element("span", "asced-line"), ...labels, this.range)
    stage.append(this.frame)
    this.root.append(this.pager.root, stage)
    this.range.addEventListener("input", () => this.#move())
    this.range.addEventListener("keydown", (event) => event.stopPropagation()) // not for the canvas
    this.before.addEventListener("load", () => {
      const { naturalWidth, naturalHeight } = this.before
      for (const part of [stage, this.frame]) {
        part.style.setProperty("--asced-aspect", String(naturalWidth / naturalHeight))
      }
      this.frame.classList.toggle("asced-small", naturalWidth < 256)
      const outline = this.pairs?.outlines?.[this.pager.index]
      this.marks.replaceChildren(...(outline ? [shapes([outline], naturalWidth, naturalHeight)] : []))
    })
    node.hideOutputImages = true // newer pages
    placeOnNode(node, this.root, "asced_panel", { getMinHeight: () => (this.pairs ? HEIGHT : EMPTY) })
    this.#draw()
    this.#move()
  }

  /** @param {any} output what the node sent to the page */
  show(output) {
    const pairs = output?.asced_compare?.[0]
    if (!pairs) return settle(this.node, this.root)
    for (const shown of [output, app.nodeOutputs?.[String(this.node.id)]]) {
      if (shown) delete shown.images // the same two versions side by side: the slider takes their room
    }
    if (!this.pairs) this.pager.index = pairs.first ?? 0
    this.pairs = pairs
    this.#draw()
    settle(this.node, this.root)
  }

  dispose() {
    this.before.removeAttribute("src")
    this.after.removeAttribute("src")
    this.pairs = null
  }

  #move() {
    this.frame.style.setProperty("--asced-before", `${this.range.value}%`)
    this.range.setAttribute("aria-valuetext", text("slider_value", { percent: this.range.value }))
  }

  #draw() {
    const count = this.pairs?.before.length ?? 0
    this.pager.reset(count)
    this.frame.hidden = !count
    this.pager.label.textContent = count ? text("image_of", { index: this.pager.index + 1, count }) : text("slider_empty")
    if (!this.pairs || !count) return
    this.before.src = fileUrl(this.pairs.before[this.pager.index])
    this.after.src = fileUrl(this.pairs.after[this.pager.index])
  }
}
