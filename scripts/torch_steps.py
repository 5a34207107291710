#!/usr/bin/env python3
"""What PyTorch does for `unmix bench step --work unmix` and `--work features`: the same forwards, the same updates, one JSON line.

  scripts/torch_steps.py unmix    --arch resnet18-cifar --batch 64 --size 32 [--channels-last]
  scripts/torch_steps.py features --arch resnet18-cifar --batch 64 --size 32 [--channels-last]
  scripts/torch_steps.py moco     --arch resnet18-cifar --batch 64 --size 32 [--channels-last]

`unmix` is the symmetric step of arXiv 2003.05438 (Un-Mix) on MoCo: queries of both views and of the mixture, keys of both views, four cross
entropies, SGD, the moving average, two enqueues. `features` is the encoder in `eval()` under `no_grad`. Needs torch and torchvision.
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision


def encoder(arch, dim=128):
    name, _, stem = arch.partition("-")
    net = getattr(torchvision.models, name)(num_classes=dim)
    if stem == "cifar":
        net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = torch.nn.Identity()
    return net


def timed(run, steps, warmup):
    out = []
    for i in range(warmup + steps):
        start = time.perf_counter()
        run()
        if i >= warmup:
            out.append(time.perf_counter() - start)
    return out


def training(a, images):
    q, k = encoder(a.arch).train(), encoder(a.arch).train()
    if a.channels_last:
        q, k = q.to(memory_format=torch.channels_last), k.to(memory_format=torch.channels_last)
    k.load_state_dict(q.state_dict())
    queue = F.normalize(torch.randn(a.queue, 128), dim=1)
    opt = torch.optim.SGD(q.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    x1, x2 = images(), images()
    target = torch.zeros(a.batch, dtype=torch.long)
    cursor = [0]

    def loss(fq, fk):
        logits = torch.cat([(fq * fk).sum(1, keepdim=True), fq @ queue.T], 1) / 0.2
        return F.cross_entropy(logits, target)

    def run():
        q1 = F.normalize(q(x1), dim=1)
        with torch.no_grad():
            k2 = F.normalize(k(x2), dim=1)
        total = loss(q1, k2)
        keys = [k2]
        if a.work == "unmix":
            mixed = 0.3 * x1 + 0.7 * torch.flip(x1, (0,))
            q2, qm = F.normalize(q(x2), dim=1), F.normalize(q(mixed), dim=1)
            with torch.no_grad():
                k1 = F.normalize(k(x1), dim=1)
            total = total + loss(q2, k1) + 0.3 * loss(qm, k2) + 0.7 * loss(qm, torch.flip(k2, (0,)))
            keys.append(k1)
        opt.zero_grad(set_to_none=True)
        total.backward()
        opt.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(k.parameters()), list(q.parameters()), 0.001)
            for key in keys:
                rows = (torch.arange(a.batch) + cursor[0]) % a.queue
                queue[rows] = key
                cursor[0] = (cursor[0] + a.batch) % a.queue

    return run


def features(a, images):
    net = encoder(a.arch).eval()
    if a.channels_last:
        net = net.to(memory_format=torch.channels_last)
    net.fc = torch.nn.Identity()
    x = images()

    def run():
        with torch.no_grad():
            F.normalize(net(x), dim=1)

    return run


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("work", choices=["moco", "unmix", "features"])
p.add_argument("--arch", default="resnet18-cifar")
p.add_argument("--batch", type=int, default=64)
p.add_argument("--size", type=int, default=32)
p.add_argument("--queue", type=int, default=4096)
p.add_argument("--threads", type=int, default=os.cpu_count())
p.add_argument("--channels-last", action="store_true")
p.add_argument("--steps", type=int, default=10)
p.add_argument("--warmup", type=int, default=3)
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)


def images():
    x = torch.randn(a.batch, 3, a.size, a.size)
    return x.to(memory_format=torch.channels_last) if a.channels_last else x


times = timed((features if a.work == "features" else training)(a, images), a.steps, a.warmup)
median = statistics.median(times)
print(json.dumps(dict(
    work=a.work, torch=torch.__version__, arch=a.arch, batch=a.batch, size=a.size, threads=a.threads, channels_last=a.channels_last, steps=a.steps,
    images_per_s=a.batch / median, median_s=median, min_s=min(times), max_s=max(times),
    peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
)))
