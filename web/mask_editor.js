// @ts-check
/** Sends an image with its mask to ComfyUI's mask editor, by way of a Load Image node, which keeps what is painted. */

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { fileUrl } from "./dom.js"

const COMMAND = "Comfy.MaskEditor.OpenMaskEditor" // for the one selected node
const FOLDER = "clipspace" // of the input directory; Load Image does not list what is in folders
const SOURCE = "asced_mask_of" // property of the Load Image node: id of the node whose mask it has
const GAP = 40 // pixels between the nodes
const PATIENCE = 10_000 // milliseconds until the page has loaded an image

/**
 * Copies the image to the input directory, puts it into the Load Image node of this node, which is added if there is
 * none, and opens the editor.
 * @param {any} node @param {import("./dom.js").FileRef} file with the mask as inverted alpha @param {string} title of a
 *   new Load Image node
 * @returns {Promise<boolean>} false if the server no longer has the file
 */
export async function editMask(node, file, title) {
  const value = await copyToInput(file)
  if (!value) return false
  const { graph } = node
  graph.beforeChange()
  const loader = graph.nodes.find((/** @type {any} */ other) => other.properties?.[SOURCE] == node.id) ?? add(node)
  loader.title = title
  loader.imgs = undefined
  const widget = loader.widgets.find((/** @type {any} */ { name }) => name === "image")
  widget.value = value
  widget.callback?.(value)
  graph.afterChange()
  app.canvas.selectItems([loader])
  await until(() => loader.imgs?.length)
  await app.extensionManager.command.execute(COMMAND)
  return true
}

/** @param {import("./dom.js").FileRef} file @returns {Promise<string>} as Load Image names it; empty: there is no file */
async function copyToInput(file) {
  const found = await fetch(fileUrl(file))
  if (!found.ok) return ""
  const form = new FormData()
  form.append("image", await found.blob(), `asced-${file.filename}`)
  form.append("subfolder", FOLDER)
  const answer = await api.fetchApi("/upload/image", { method: "POST", body: form })
  if (!answer.ok) return ""
  const { name, subfolder, type } = await answer.json()
  return `${subfolder}/${name} [${type}]`
}

/** @param {any} node @returns {any} a Load Image node to its right */
function add(node) {
  const made = /** @type {any} */ (globalThis).LiteGraph.createNode("LoadImage")
  made.pos = [node.pos[0] + node.size[0] + GAP, node.pos[1]]
  made.properties[SOURCE] = node.id
  node.graph.add(made)
  return made
}

/** @param {() => any} ready */
async function until(ready) {
  const end = Date.now() + PATIENCE
  while (!ready() && Date.now() < end) await new Promise((go) => setTimeout(go, 50))
}
