// @ts-check
/** Shared by all that is drawn on nodes: elements, file URLs, a place on a node. */

import { api } from "../../scripts/api.js"
import { text } from "./text.js"

/** @typedef {{filename: string, subfolder: string, type: string}} FileRef a file in one of the server's folders */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} style its class
 * @param {Record<string, string>} [attributes]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, style, attributes = {}) {
  const made = document.createElement(tag)
  made.className = style
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  return made
}

/**
 * @param {string} style its class @param {string} label what it says, or for a sign what it means
 * @param {() => void} onClick @param {string} [sign] shown in place of the label
 * @returns {HTMLButtonElement}
 */
export function button(style, label, onClick, sign) {
  const made = element("button", style, { type: "button", ...(sign ? { "aria-label": label } : {}) })
  made.textContent = sign ?? label
  made.addEventListener("click", onClick)
  return made
}

/**
 * Shapes over a picture.
 * @param {string[]} paths SVG paths @param {number} width @param {number} height of the picture that they belong to
 */
export function shapes(paths, width, height) {
  const space = "http://www.w3.org/2000/svg"
  const root = document.createElementNS(space, "svg")
  root.setAttribute("class", "asced-shapes")
  root.setAttribute("viewBox", `0 0 ${width} ${height}`)
  root.setAttribute("preserveAspectRatio", "none")
  root.setAttribute("aria-hidden", "true")
  for (const path of paths) {
    const shape = document.createElementNS(space, "path")
    shape.setAttribute("d", path)
    root.append(shape)
  }
  return root
}

/** @param {FileRef | null | undefined} file @returns {string} its URL; empty for no file */
export function fileUrl(file) {
  if (!file) return ""
  const { filename, subfolder, type } = file
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
}

/** Loads the style sheet, without adding an element to the page. */
export async function addStyleSheet() {
  const answer = await fetch(new URL("./asced.css", import.meta.url))
  document.adoptedStyleSheets.push(await new CSSStyleSheet().replace(await answer.text()))
}

/** Calls another function after a method of a node. @param {any} node @param {string} name @param {Function} also */
export function chain(node, name, also) {
  const original = node[name]
  node[name] = function (/** @type {any[]} */ ...given) {
    const result = original?.apply(this, given)
    also(...given)
    return result
  }
}

/**
 * Puts an element on a node, in both of ComfyUI's renderers.
 * @param {any} node
 * @param {HTMLElement} root
 * @param {string} name of the widget
 * @param {{getMinHeight: () => number, getMaxHeight?: () => number, margin?: number}} size in pixels; without a maximum,
 *   the element takes all the room that is left
 */
export function placeOnNode(node, root, name, size) {
  // a press here must not drag the node: in Nodes 2.0 the element lies inside it
  root.addEventListener("pointerdown", (event) => event.stopPropagation())
  const options = { serialize: false, hideOnZoom: false, ...size }
  node.addDOMWidget(name, name.toUpperCase(), root, options).serialize = false
  chain(node, "onAdded", () => setTimeout(() => settle(node, root), 100))
}

/**
 * Makes a node tall enough for its content, and puts its element into the page.
 *
 * Nodes 2.0 reuses the DOM of a node for the next node with the same id, for example when a workflow is reloaded, and
 * then still shows the old node's element.
 * @param {any} node
 * @param {HTMLElement} root
 */
export function settle(node, root) {
  if (!node.graph) return
  if (!root.isConnected) document.querySelector(`[data-node-id="${node.id}"] .${root.classList[0]}`)?.replaceWith(root)
  const [width, height] = node.computeSize()
  if (node.size[0] < width || node.size[1] < height) {
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  }
  node.graph.setDirtyCanvas(true, true)
}

/** The images of a batch, one at a time: two arrows and a line of text. */
export class Pager {
  /** @param {(index: number) => void} onTurn */
  constructor(onTurn) {
    this.index = 0
    this.count = 0
    this.root = element("div", "asced-pager")
    this.label = element("span", "asced-text")
    this.back = this.#arrow("◀", text("previous_image"), -1, onTurn)
    this.forth = this.#arrow("▶", text("next_image"), 1, onTurn)
    this.root.append(this.back, this.label, this.forth)
  }

  /** @param {number} count */
  reset(count) {
    this.count = count
    this.index = Math.min(this.index, Math.max(0, count - 1))
    this.back.hidden = this.forth.hidden = count < 2
  }

  /** @param {string} sign @param {string} label @param {number} by @param {(index: number) => void} onTurn */
  #arrow(sign, label, by, onTurn) {
    const turn = () => {
      this.index = (this.index + by + this.count) % this.count
      onTurn(this.index)
    }
    return button("asced-arrow", label, turn, sign)
  }
}
