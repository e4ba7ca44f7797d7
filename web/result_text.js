// @ts-check
/** The text on a node: its status while it runs, and its last result, which stays and is saved with the workflow. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { chain, element, placeOnNode, settle } from "./dom.js"

const KEY = "asced_text" // in a node's output, and in its properties
const HOST_WIDGET = "$$node-text-preview" // the page's own, which disappears with the job
const RESULT_TEXT = Symbol("ASCED result text") // of a node
const MOST = 106 // pixels: 6 lines with their padding; longer texts scroll
const MARGIN = 4 // pixels around them, in the classic renderer

/** @type {Set<ResultText>} of the nodes that showed a status in this job */
const running = new Set()

class ResultText {
  /** @param {any} node */
  constructor(node) {
    this.node = node
    this.height = 0
    this.status = "" // while the node runs, and why it failed
    this.root = element("div", "asced-result", { role: "status", tabindex: "-1" })
    this.text = element("div", "asced-result-line")
    this.root.append(this.text)
    const scrolls = () => this.text.offsetHeight > this.root.clientHeight
    this.root.addEventListener("wheel", (event) => scrolls() && event.stopPropagation()) // not for the canvas
    const height = () => this.height && this.height + 2 * MARGIN
    placeOnNode(node, this.root, "asced_result_text", { getMinHeight: height, getMaxHeight: height, margin: MARGIN })
    new ResizeObserver(() => this.#fit()).observe(this.text)
    this.draw()
  }

  /** @param {any} output what the node sent to the page */
  keep(output) {
    if (!Array.isArray(output?.[KEY])) return // a cached node without a text, or an older result
    this.node.properties[KEY] = output[KEY].filter(Boolean).join("\n")
    this.finish()
  }

  /** @param {string} status */
  tell(status) {
    this.status = status
    running.add(this)
    this.draw()
  }

  /** Shows the last result again. */
  finish() {
    this.status = ""
    running.delete(this)
    this.draw()
  }

  draw() {
    const shown = this.status || String(this.node.properties?.[KEY] ?? "")
    this.root.hidden = !shown
    if (this.text.textContent !== shown) this.text.textContent = shown
    if (!shown) this.height = 0
    settle(this.node, this.root)
  }

  /** Makes room for all lines, at the width that the node has. */
  #fit() {
    const height = Math.min(MOST, this.text.offsetHeight)
    if (!height || height === this.height) return // not on the screen, or nothing new
    this.height = height
    settle(this.node, this.root)
  }
}

/** @param {string} id such as 5, or 12:5 inside a subgraph @returns {any} the node in the open workflow */
function find(id) {
  let graph = app.graph?.rootGraph ?? app.graph
  let node
  for (const part of id.split(":")) {
    node = graph?.getNodeById(part)
    graph = node?.subgraph
  }
  return node
}

/** Removes the page's own widget for a status: the same text is not shown twice. @param {any} node */
function removeDouble(node) {
  const double = node.widgets?.find((/** @type {any} */ widget) => widget.name === HOST_WIDGET)
  if (double) node.removeWidget(double)
}

/** @param {any} node of this pack */
export function addResultText(node) {
  const shown = new ResultText(node)
  node[RESULT_TEXT] = shown
  chain(node, "onExecuted", (/** @type {any} */ output) => shown.keep(output))
  chain(node, "onConfigure", () => shown.draw())
  chain(node, "onRemoved", () => running.delete(shown))
}

/** Listens to the page's jobs. */
export function followJobs() {
  api.addEventListener("progress_text", (/** @type {any} */ { detail }) => {
    const node = find(String(detail.nodeId))
    if (!node?.[RESULT_TEXT]) return
    removeDouble(node) // before the node gets its size
    node[RESULT_TEXT].tell(detail.text)
    queueMicrotask(() => removeDouble(node)) // if the page's own listener comes after this one
  })
  for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(end, () => running.forEach((shown) => shown.finish()))
  }
  api.addEventListener("execution_error", (/** @type {any} */ { detail }) => {
    find(String(detail?.node_id))?.[RESULT_TEXT]?.tell(String(detail.exception_message).trim()) // until the next run ends
  })
}
