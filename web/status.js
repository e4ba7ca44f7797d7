// @ts-check
/** Keeps the last status of a run on its node: newer pages remove status texts when a job ends. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const WIDGET = "$$node-text-preview" // the page's own, for status texts

/** @type {Map<string, {node: any, text: string}>} status texts of the current job by execution id */
const last = new Map()

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

/** Shows the last texts again where the page removed them. */
function restore() {
  for (const [nodeId, { node, text }] of last) {
    const kept = node.widgets?.some((/** @type {any} */ widget) => widget.name === WIDGET)
    if (kept || find(nodeId) !== node) continue
    api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId, text } }))
  }
}

/** Listens to the page's jobs. */
export function keepStatus() {
  api.addEventListener("execution_start", () => last.clear())
  api.addEventListener("progress_text", (/** @type {any} */ { detail }) => {
    const id = String(detail.nodeId)
    const node = find(id)
    if (node?.comfyClass?.startsWith("ASCED_")) last.set(id, { node, text: detail.text })
  })
  api.addEventListener("execution_success", () => setTimeout(restore)) // after the page's own listeners
}
