"""What the other tests rest on: an answer that is looked up equals the one that would be computed."""

from __future__ import annotations

import pytest
import torch

from .recall import recalling


@pytest.fixture
def net(hands):
    """The small network as a class of its own, whose computed calls are counted; and inputs for it."""
    from asced.demo.hand_unet import HandUNet

    compute = HandUNet.velocity.__wrapped__
    calls = []

    class Counted(HandUNet):
        @recalling
        def velocity(self, *inputs):
            calls.append(inputs)
            return compute(self, *inputs)

    own = Counted(channels=16, mult=(1, 2)).eval().requires_grad_(False)
    own.load_state_dict(hands.eps.model.diffusion_model.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = x, torch.tensor([400, 700]), torch.tensor([1, 10])
    return own, inputs, calls, compute


def test_the_same_call_is_computed_once_and_its_answer_cannot_be_changed(net):
    own, inputs, calls, compute = net
    expected = compute(own, *inputs)
    own.velocity(*inputs).zero_()
    again = own.velocity(*inputs)
    assert len(calls) == 1
    assert torch.equal(again, expected) and again.stride() == own.velocity(*inputs).stride()


@pytest.mark.parametrize(
    "change", ["a bit of the input", "layout", "timestep", "label", "batch", "weights", "their layout"]
)
def test_another_call_is_computed(net, change):
    own, (x, t, y), calls, compute = net
    own.velocity(x, t, y)
    if change == "a bit of the input":
        x = x.clone()
        x[0, 0, 0, 0] = torch.nextafter(x[0, 0, 0, 0], torch.tensor(9.0))
    elif change == "layout":
        x = x.to(memory_format=torch.channels_last)
    elif change == "timestep":
        t = t + 1
    elif change == "label":
        y = y.flip(0)
    elif change == "batch":
        x, t, y = x[:1], t[:1], y[:1]
    elif change == "their layout":
        own.to(memory_format=torch.channels_last)
    else:
        own.head.bias[0] += 1e-6  # as a weight patch does: in place
    assert torch.equal(own.velocity(x, t, y), compute(own, x, t, y))
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["hook", "pre-hook", "forward replaced"])
def test_with_a_changed_module_every_call_is_computed(net, kind):
    own, inputs, calls, _ = net
    head, seen = own.head, []
    if kind == "hook":
        head.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    elif kind == "pre-hook":
        head.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape))
    else:
        head.forward = lambda x: seen.append(x.shape) or type(head).forward(head, x)
    own.velocity(*inputs)
    own.velocity(*inputs)
    assert len(calls) == len(seen) == 2
