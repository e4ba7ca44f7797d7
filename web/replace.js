// @ts-check
/** Puts an ASCED sampler in the place of ComfyUI's, and back: in the context menu of both, and above a selected one. */

import { app } from "../../scripts/app.js"
import { text } from "./text.js"

const OURS = /** @type {Record<string, string>} */ ({
  KSampler: "ASCED_KSampler",
  KSamplerAdvanced: "ASCED_KSamplerAdvanced",
  SamplerCustomAdvanced: "ASCED_SamplerCustomAdvanced",
})
const THEIRS = Object.fromEntries(Object.entries(OURS).map(([theirs, ours]) => [ours, theirs]))
const COMMAND = "ASCED.Replace"
const INPUT_NODE = -10 // a subgraph's own inputs and outputs, as ends of a link
const OUTPUT_NODE = -20

const liteGraph = () => /** @type {any} */ (globalThis).LiteGraph

/** The type that takes a node's place; none for other nodes. @param {any} node @returns {string | undefined} */
function otherType(node) {
  const type = OURS[node.comfyClass] ?? THEIRS[node.comfyClass]
  return type && liteGraph().registered_node_types[type] ? type : undefined
}

/** @param {string} type @returns {string} such as Replace with KSampler */
const label = (type) => text("replace", { name: liteGraph().registered_node_types[type]?.title ?? type })

/** @returns {any[]} the selected nodes that can be replaced */
const selected = () => Object.values(app.canvas?.selected_nodes ?? {}).filter(otherType)

/** The parts of the extension that offer the replacement; the toolbox is for Nodes 2.0 of older pages. */
export const replacing = {
  commands: [
    {
      id: COMMAND,
      icon: "pi pi-sync",
      label: () => label(otherType(selected()[0] ?? {}) ?? "ASCED_KSampler"),
      function: () => selected().forEach(replaceNode),
    },
  ],
  getSelectionToolboxCommands: (/** @type {any} */ item) => (otherType(item) ? [COMMAND] : []),
  getNodeMenuItems(/** @type {any} */ node) {
    const type = otherType(node)
    return type ? [{ content: label(type), callback: () => replaceNode(node) }] : []
  },
}

/** Replaces a node, with its id, place, links, and the values of widgets that both types have. @param {any} node */
function replaceNode(node) {
  const { graph, id } = node
  const made = liteGraph().createNode(otherType(node))
  const [incoming, outgoing] = linksOf(node)
  graph.beforeChange()
  copyLooks(node, made)
  graph.remove(node)
  made.id = id
  graph.add(made)
  for (const widget of made.widgets ?? []) {
    const old = node.widgets?.find((/** @type {any} */ { name }) => name === widget.name)
    if (old) widget.value = old.value
  }
  for (const { name, link } of incoming) connectInput(graph, link, made, made.findInputSlot(name))
  for (const { slot, link } of outgoing) connectOutput(graph, link, made, slot)
  const [width, height] = made.computeSize()
  made.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])])
  graph.afterChange()
  app.canvas.selectItems([made])
  app.canvas.setDirty(true, true)
}

/** @param {any} node @returns {[{name: string, link: any}[], {slot: number, link: any}[]]} copies of its links */
function linksOf(node) {
  const copy = (/** @type {any} */ id) => ({ ...node.graph.getLink(id) })
  const linked = node.inputs.filter((/** @type {any} */ input) => input.link != null)
  return [
    linked.map((/** @type {any} */ { name, link }) => ({ name, link: copy(link) })),
    node.outputs.flatMap((/** @type {any} */ { links }, /** @type {number} */ slot) =>
      (links ?? []).map((/** @type {any} */ id) => ({ slot, link: copy(id) })),
    ),
  ]
}

/** @param {any} from @param {any} to */
function copyLooks(from, to) {
  if (from.title !== from.constructor.title) to.title = from.title
  to.pos = [...from.pos]
  to.mode = from.mode
  to.flags = { ...from.flags }
  for (const name of ["color", "bgcolor", "shape"]) if (from[name] !== undefined) to[name] = from[name]
}

/** @param {any} graph @param {any} link @param {any} node @param {number} slot where it ends now; -1 is nowhere */
function connectInput(graph, link, node, slot) {
  if (slot < 0) return
  if (link.origin_id === INPUT_NODE) graph.inputs[link.origin_slot].connect(node.inputs[slot], node, link.parentId)
  else graph.getNodeById(link.origin_id)?.connect(link.origin_slot, node, slot, link.parentId)
}

/** @param {any} graph @param {any} link @param {any} node @param {number} slot where it begins now, if there is one */
function connectOutput(graph, link, node, slot) {
  const output = node.outputs[slot]
  if (!output) return
  if (link.target_id === OUTPUT_NODE) graph.outputs[link.target_slot].connect(output, node, link.parentId)
  else node.connect(slot, graph.getNodeById(link.target_id), link.target_slot, link.parentId)
}
