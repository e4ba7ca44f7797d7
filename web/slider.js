// @ts-check
/** Before and after on one place, with a line to move: the slider of ASCED_Compare. */

import { element, fileUrl, Pager, placeOnNode, settle } from "./dom.js"

const HEIGHT = 220 // pixels, the least
const EMPTY = 24

export class CompareSlider {
  /** @param {any} node */
  constructor(node) {
    this.node = node
    /** @type {{before: import("./dom.js").FileRef[], after: import("./dom.js").FileRef[]} | null} */
    this.pairs = null
    this.root = element("div", "asced-panel", { role: "group", "aria-label": "Before and after" })
    this.pager = new Pager(() => this.#draw())
    const stage = element("div", "asced-stage")
    this.frame = element("div", "asced-frame asced-compare")
    this.after = element("img", "asced-picture", { alt: "After", draggable: "false" })
    this.before = element("img", "asced-picture asced-before", { alt: "Before", draggable: "false" })
    this.range = element("input", "asced-range", {
      type: "range",
      min: "0",
      max: "100",
      step: "1",
      value: "50",
      "aria-label": "How much of the image shows before",
    })
    const labels = ["before", "after"].map((word) => {
      const label = element("span", `asced-label asced-label-${word}`)
      label.textContent = word
      return label
    })
    this.frame.append(this.after, this.before, element("span", "asced-line"), ...labels, this.range)
    stage.append(this.frame)
    this.root.append(this.pager.root, stage)
    this.range.addEventListener("input", () => this.#move())
    this.range.addEventListener("keydown", (event) => event.stopPropagation()) // its arrows are not the canvas's
    this.before.addEventListener("load", () => {
      const { naturalWidth, naturalHeight } = this.before
      this.frame.style.setProperty("--asced-aspect", String(naturalWidth / naturalHeight))
      this.frame.classList.toggle("asced-small", naturalWidth < 256)
    })
    placeOnNode(node, this.root, () => (this.pairs ? HEIGHT : EMPTY))
    this.#draw()
    this.#move()
  }

  /** @param {any} output what the node gave to the page */
  show(output) {
    const pairs = output?.asced_compare?.[0]
    if (!pairs) return settle(this.node, this.root)
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
    this.range.setAttribute("aria-valuetext", `${this.range.value} % before`)
  }

  #draw() {
    const count = this.pairs?.before.length ?? 0
    this.pager.reset(count)
    this.frame.hidden = !count
    this.pager.words.textContent = count ? `Image ${this.pager.index} of ${count}` : "Run to compare."
    if (!this.pairs || !count) return
    this.before.src = fileUrl(this.pairs.before[this.pager.index])
    this.after.src = fileUrl(this.pairs.after[this.pager.index])
  }
}
