"""What patches remember is found without running their code, and put back exactly."""

from __future__ import annotations

import collections
import functools
import random
import types

import numpy as np
import pytest
import torch

from .models import with_artifact

COUNT = 0
HELD = {"calls": 0}


class Memory:
    """Everything in which a patch may remember something."""

    calls = 0
    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.number, self.slot, self.nested = 0, 0, {"list": [0], "deep": [{"x": 0}]}
        self.deque, self.ordered = collections.deque([0]), collections.OrderedDict(n=0)
        self.default, self.set, self.space = collections.defaultdict(int), {0}, types.SimpleNamespace(n=0)
        self.tensor, self.small = torch.zeros(2), torch.zeros(())
        self.generator, self.numpy = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.legacy, self.python = np.random.RandomState(1), random.Random(1)

    def __call__(self) -> list:
        global COUNT
        self.number += 1
        self.slot += 1
        self.nested["list"].append(1)
        self.nested["deep"][0]["x"] += 1
        self.nested["new"] = 1
        self.deque.append(1)
        self.ordered["n"] += 1
        self.default["n"] += 1
        self.set.add(1)
        self.space.n += 1
        self.tensor += 1
        self.small = self.small + 1
        self.fresh = 1
        type(self).calls += 1
        COUNT += 1
        HELD["calls"] += 1
        drawn = [float(torch.rand(1, generator=self.generator)), self.numpy.random(), self.legacy.rand()]
        return [*drawn, self.python.random(), random.random(), float(torch.rand(1))]

    def seen(self) -> list:
        own = {k: v for k, v in vars(self).items() if k not in ("generator", "numpy", "legacy", "python")}
        return [repr(own), self.slot, type(self).calls, COUNT, HELD["calls"]]


def _ways(memory):
    """How a patch may hang together with its memory."""

    def closure():
        return memory()

    class Other:
        def __init__(self):
            self.inner = [memory]

        def method(self):
            return self.inner[0]()

        def __call__(self):
            return self.method()

    default = lambda own=memory: own()  # noqa: E731
    attribute = lambda: attribute.own()  # noqa: E731
    attribute.own = memory
    return {
        "object": memory, "method": memory.__call__, "closure": closure,
        "partial": functools.partial(Memory.__call__, memory),
        "another object": Other(), "its method": Other().method, "default": default, "attribute": attribute,
        "decorated": functools.wraps(closure)(lambda: closure()),
    }  # fmt: skip


WAYS = ("object", "method", "closure", "partial", "another object", "its method", "default", "attribute", "decorated")


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_undone_wherever_the_memory_is(pack, way):
    from asced.nodes.sampling.patch_state import PatchState, changes

    memory = Memory()
    patch = _ways(memory)[way]
    state = PatchState([{"wrappers": {"any": [patch]}}], torch.device("cpu"))
    patch()
    before, expected = state.read(), memory.seen()
    first = patch()
    changed = memory.seen()
    assert changed != expected and changes(before, state.read())
    state.write(before)
    assert memory.seen() == expected
    assert patch() == first and memory.seen() == changed  # also what it draws


def test_reading_runs_no_code_and_leaves_everything_where_it_is(pack):
    from asced.nodes.sampling.patch_state import PatchState, changes

    class Touchy:
        def __init__(self):
            self.plain = [1, 2]

        @property
        def lazy(self):
            raise AssertionError("a property ran")

        def __getattr__(self, name):
            raise AssertionError(f"asked for {name}")

        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = object.__hash__

    touchy = Touchy()
    inner = touchy.plain
    state = PatchState([[lambda: touchy]], torch.device("cpu"))
    state.write(state.read())
    assert changes(state.read(), state.read()) == set()
    assert vars(touchy)["plain"] is inner == [1, 2]


def test_models_and_this_pack_are_not_entered(pack, hands):
    from asced.nodes.sampling.patch_walk import Walk

    model = hands.eps.model
    _, names = model, {id(part) for part in (model, model.diffusion_model, hands.eps, vars(hands.eps))}
    walk = Walk([[lambda: (model, hands)]])
    assert not any(id(owner) in names for owner, _, _ in walk.state.values())


def test_an_endless_structure_is_cut_off(pack):
    from asced.nodes.sampling.patch_walk import MOST, Walk

    first: list = []
    last = first
    for _ in range(3):
        last.append([])
        last = last[0]
    last.append(first)  # a circle
    many = [[n] for n in range(3 * MOST)]
    deep: list = []
    for _ in range(3 * MOST):
        deep = [deep]
    assert len(Walk([lambda: (first, many, deep)]).state) <= MOST + 10


def test_a_model_without_patches_has_little_to_visit(pack, hands):
    from asced.nodes.sampling.patch_walk import Walk

    walk = Walk([hands.eps.model_options, {}, hands.eps.model.diffusion_model])
    assert len(walk.state) < 200


@pytest.mark.parametrize(("artifact", "reads"), [(False, 2), (True, 4)], ids=["watched", "corrected"])
def test_a_run_reads_what_patches_remember_as_rarely_as_it_can(
    pack, hands, corrected, settings, monkeypatch, artifact, reads
):
    """Each read of a large network takes milliseconds: after the first step and before T_c; at T_c, and its call."""
    from asced.nodes.sampling import patch_state

    walk, walks = patch_state.Walk, []
    monkeypatch.setattr(patch_state, "Walk", lambda roots: walks.append(0) or walk(roots))
    model = with_artifact(hands.eps) if artifact else hands.eps
    _, _, report = corrected(model, settings=settings, batch=1)
    assert any(image.corrected for image in report.images) == artifact
    assert len(walks) == reads
