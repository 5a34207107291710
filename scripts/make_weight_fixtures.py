#!/usr/bin/env python3
"""Writes the PyTorch files that the tests of imported weights read (tests/data/*.pth).

    python scripts/make_weight_fixtures.py        # needs torch; the files are in the repository

The net is one convolution, one norm and one linear layer. Every value is a small multiple of 1/8, so that each floating-point type holds it
exactly: value i of the tensor with offset o is (o + i) / 8.
"""

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parent.parent / "tests" / "data"
SHAPES = OrderedDict([
    ("conv1.weight", (2, 3, 3, 3)), ("bn1.weight", (2,)), ("bn1.bias", (2,)), ("bn1.running_mean", (2,)), ("bn1.running_var", (2,)),
    ("fc.weight", (4, 2)), ("fc.bias", (4,)),
])


def values(offset, shape):
    return ((offset + torch.arange(torch.Size(shape).numel())) / 8).reshape(shape)


def state_dict(shift, kinds=None):
    """Tensor number n gets the offset shift + n."""
    out = OrderedDict()
    for number, (name, shape) in enumerate(SHAPES.items()):
        tensor = values(shift + number, shape)
        out[name] = tensor.to(kinds[number % len(kinds)]) if kinds else tensor
    out["bn1.num_batches_tracked"] = torch.tensor(7)
    return out


def moco():
    """As moco's trainer saves: both encoders, the queue, the optimizer, the options."""
    state = OrderedDict(("module.encoder_q." + name, value) for name, value in state_dict(0).items())
    state.update(("module.encoder_k." + name, value) for name, value in state_dict(100).items())
    state["module.queue"] = values(0, (4, 3))
    state["module.queue_ptr"] = torch.zeros(1, dtype=torch.long)
    momentum = {number: {"momentum_buffer": values(0, shape)} for number, shape in enumerate(SHAPES.values())}
    options = argparse.Namespace(lr=0.03, data=Path("data"))
    return {"epoch": 3, "arch": "tiny", "state_dict": state, "optimizer": {"state": momentum, "param_groups": []}, "opt": options}


def legacy():
    """The format before PyTorch 1.6, every floating-point type, a convolution that is not contiguous, a head of another width."""
    state = state_dict(0, [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    state["conv1.weight"] = state["conv1.weight"].to(memory_format=torch.channels_last)
    state["fc.weight"], state["fc.bias"] = values(0, (10, 2)), values(0, (10,))
    return state


class Command:
    """Unpickled by Python, it runs a shell command."""

    def __reduce__(self):
        return os.system, ("touch unmix-ran-this",)


def main():
    OUT.mkdir(exist_ok=True)
    torch.save(moco(), OUT / "moco.pth")
    torch.save(legacy(), OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state_dict(0), "epoch": Command()}, OUT / "command.pth")


if __name__ == "__main__":
    main()
