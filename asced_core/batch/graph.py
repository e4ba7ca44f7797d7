"""A workflow of ComfyUI in API format: where its prompt, seed, images and report are."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .jobs import Job

Graph = dict[str, dict[str, Any]]

SEEDS = ("seed", "noise_seed")
TEXTS = ("text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "prompt")
VALUES = ("value", "string", "int", *SEEDS, *TEXTS)  # of nodes that hold a number or a text for others
ASIDE = ("model", "clip", "vae", "image", "latent_image", "control_net")  # these lead to no prompt
SAVERS = ("ASCED_SaveReport", "SaveImage", "PreviewImage")  # whose images are taken: the first kind that is there
VIEW = "ASCED_MaskPreview"
OWN_VIEW = "asced_batch_masks"
UNUSED = "asced_batch_run"


@dataclass(frozen=True, order=True)
class Place:
    """An input of a node."""

    node: str
    input: str


@dataclass(frozen=True)
class Form:
    """A graph with places for a job to fill in.

    Attributes:
        graph: nodes by id; not changed.
        seeds, prompt, negative: the inputs to set; a prompt may have several, such as those of two text encoders.
        saver: id of the node whose images are taken; empty takes those of the only node that gives some.
        view: id of the node that gives masks and report; empty if there is no report.
    """

    graph: Graph
    seeds: tuple[Place, ...]
    prompt: tuple[Place, ...]
    negative: tuple[Place, ...]
    saver: str
    view: str

    def filled(self, job: Job) -> Graph:
        """The graph of a job.

        Raises:
            ValueError: it has a negative prompt, for which there is no place.
        """
        if job.negative is not None and not self.negative:
            raise ValueError("The graph has no one place for a negative prompt: name its node with --negative-node.")
        graph = copy.deepcopy(self.graph)
        for places, value in ((self.seeds, job.seed), (self.prompt, job.prompt), (self.negative, job.negative)):
            for place in places if value is not None else ():
                graph[place.node]["inputs"][place.input] = value
        return graph


def to_run_again(graph: Graph) -> Graph:
    """The graph with another unused input at each node that ends it.

    ComfyUI does not run a node again whose inputs are the same, and then its images are missing in the history: a job
    that another worker has queued before would give nothing.
    """
    used = {value[0] for one in graph.values() for value in one["inputs"].values() if _is_link(value)}
    run = uuid.uuid4().hex
    return {
        node: one if node in used else {**one, "inputs": {**one["inputs"], UNUSED: run}} for node, one in graph.items()
    }


def read_graph(file: Path) -> Graph:
    """A workflow that was exported in API format.

    Raises:
        ValueError: the file cannot be read, or holds something else.
    """
    try:
        graph = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Could not read the workflow {file}: {error}.") from error
    nodes = graph.values() if isinstance(graph, dict) else ()
    if not nodes or not all(isinstance(node, dict) and "class_type" in node and "inputs" in node for node in nodes):
        raise ValueError(f"{file} is no workflow in API format: in ComfyUI, choose Workflow > Export (API).")
    return graph


def find_places(
    graph: Graph,
    seed_nodes: Sequence[str] = (),
    prompt_node: str = "",
    negative_node: str = "",
    image_node: str = "",
) -> Form:
    """Finds where a job is filled in.

    Args:
        graph: nodes by id.
        seed_nodes, prompt_node, negative_node: what the user named, as ``ID`` or ``ID.input``; empty finds it.
        image_node: id of the node whose images are taken; empty finds it.

    Raises:
        ValueError: nothing was found, or several; or a named node is not there.
    """
    prompt = _named(graph, prompt_node, TEXTS, "--prompt-node") if prompt_node else _the_prompt(graph)
    if negative_node:
        negative = _named(graph, negative_node, TEXTS, "--negative-node")
    else:
        found = {
            node for node in _text_nodes(graph, "negative") if not set(_texts(graph, node, "negative")) & set(prompt)
        }
        negative = tuple(_texts(graph, found.pop(), "negative")) if len(found) == 1 else ()
    seeds = tuple(place for name in seed_nodes for place in _named(graph, name, SEEDS, "--seed-node"))
    saver = _saver(graph, image_node)
    graph, view = _with_view(graph, saver)
    return Form(graph, seeds or _the_seeds(graph), prompt, negative, saver, view)


def _the_seeds(graph: Graph) -> tuple[Place, ...]:
    every = {
        place: node
        for node, one in graph.items()
        if one["inputs"].get("add_noise") != "disable"  # of KSampler (Advanced)
        for place in _values(graph, node, SEEDS)
    }
    sampling = {place: node for place, node in every.items() if "positive" in graph[node]["inputs"]}
    found = sampling if len(every) > 1 and sampling else every
    if len(found) == 1:
        return tuple(found)
    raise ValueError(_choose(graph, (place.node for place in found), "seed", "--seed-node"))


def _the_prompt(graph: Graph) -> tuple[Place, ...]:
    found = _text_nodes(graph, "positive")
    if len(found) == 1:
        return tuple(_texts(graph, found.pop(), "positive"))
    raise ValueError(_choose(graph, found, "positive prompt", "--prompt-node"))


def _text_nodes(graph: Graph, role: str) -> set[str]:
    """The nodes whose texts become the positive or the negative conditioning of any sampler or guider."""
    heads = [node for node, one in graph.items() if role in one["inputs"]]
    if not heads and role == "positive":  # guiders with a single conditioning
        heads = [node for node, one in graph.items() if "conditioning" in one["inputs"]]
    found: set[str] = set()
    seen: set[str] = set()
    while heads:
        node = heads.pop()
        if node in seen or node not in graph:
            continue
        seen.add(node)
        if _texts(graph, node, role):
            found.add(node)
        else:
            heads += _upstream(graph[node]["inputs"], role)
    return found


def _upstream(inputs: dict[str, Any], role: str) -> list[str]:
    links = {name: value[0] for name, value in inputs.items() if _is_link(value)}
    chosen = [name for name in links if name == role] or [name for name in links if name.startswith("conditioning")]
    return [links[name] for name in chosen or links if name not in ASIDE]


def _texts(graph: Graph, node: str, role: str) -> list[Place]:
    """The texts that a node encodes; some loaders take the prompt itself as ``positive``."""
    own = [Place(node, role)] if isinstance(graph[node]["inputs"].get(role), str) else []
    found = [*_values(graph, node, TEXTS), *own]
    return [place for place in found if isinstance(graph[place.node]["inputs"][place.input], str)]


def _values(graph: Graph, node: str, names: Sequence[str]) -> Iterator[Place]:
    """The inputs with these names; where one is linked, the inputs of the node that holds its value."""
    for name in names:
        value = graph[node]["inputs"].get(name)
        if _is_link(value):
            source = graph.get(value[0], {"inputs": {}})["inputs"]
            yield from (Place(value[0], own) for own in VALUES if isinstance(source.get(own), str | int))
        elif isinstance(value, str | int):
            yield Place(node, name)


def _named(graph: Graph, text: str, names: Sequence[str], option: str) -> tuple[Place, ...]:
    """The inputs that a user named, as ``ID`` or ``ID.input``."""
    node, _, own = (text, "", "") if text in graph else text.rpartition(".")
    if node not in graph:
        raise ValueError(f"{option}: there is no node {text} in the graph; its nodes are {_listed(graph, graph)}.")
    inputs = graph[node]["inputs"]
    if own and own not in inputs:
        raise ValueError(f"{option}: node {node} has no input {own}; it has {', '.join(inputs) or 'none'}.")
    places = (Place(node, own),) if own else tuple(_values(graph, node, (*names, *VALUES)))
    places = tuple(dict.fromkeys(places))
    if not places:
        raise ValueError(f"{option}: say which input of node {node}, as {node}.INPUT; it has {', '.join(inputs)}.")
    return places


def _saver(graph: Graph, named: str) -> str:
    if named:
        if named not in graph:
            raise ValueError(f"--image-node: there is no node {named} in the graph.")
        return named
    for kind in SAVERS:
        found = [node for node, one in graph.items() if one["class_type"] == kind]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(_choose(graph, found, "image", "--image-node"))
    return ""


def _with_view(graph: Graph, saver: str) -> tuple[Graph, str]:
    """The graph with a node that gives masks and report of the saved images, and its id; empty without a report."""
    of_saver = graph[saver]["inputs"] if saver else {}
    reports = [of_saver["report"]] if "report" in of_saver else []
    for one in graph.values() if not reports else ():
        link = one["inputs"].get("report")
        if _is_link(link) and link not in reports:
            reports.append(link)
    if not reports:
        return graph, ""
    if len(reports) > 1:
        raise ValueError(
            "The graph has several reports: save the images with ASCED Save Report, so that one is theirs."
        )
    views = [n for n, one in graph.items() if one["class_type"] == VIEW and one["inputs"].get("report") == reports[0]]
    if views:
        return graph, views[0]
    image = {"image": of_saver["image"]} if "report" in of_saver else {}
    return {**graph, OWN_VIEW: {"class_type": VIEW, "inputs": {"report": reports[0], **image}}}, OWN_VIEW


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _choose(graph: Graph, nodes: Any, what: str, option: str) -> str:
    found = sorted(set(nodes))
    if not found:
        return f"No node for the {what} was found in the graph: name it with {option} ID, or ID.input."
    return f"The graph has several nodes for the {what}: {_listed(graph, found)}. Name one with {option} ID."


def _listed(graph: Graph, nodes: Any) -> str:
    return ", ".join(
        f"{node} ({graph[node].get('_meta', {}).get('title') or graph[node]['class_type']})" for node in nodes
    )
