"""One rank of a gloo group: every method on its share of the batch against one process on the whole batch.

Arguments: rank, world size, a file for the rendezvous, a file for this rank's findings (JSON).
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from methods import registry

ROWS, INPUTS, WIDTH = 6, 5, 8  # rows a rank


def batch(world, count):
    generator = torch.Generator().manual_seed(3)
    return list(torch.randn(count, world * ROWS, INPUTS, generator=generator, dtype=torch.float64))


def linear():
    torch.manual_seed(4)
    return torch.nn.Linear(INPUTS, WIDTH, dtype=torch.float64)


def run(model, name, inputs, form, group):
    """Loss of the views, and the gradient of the layer's parameters."""
    method = registry.get(name)
    views = model(torch.cat(inputs)).chunk(len(inputs))
    loss = method(views, **method.resolve({}, WIDTH), form=form, group=group)
    model.zero_grad()
    loss.value.backward()
    terms = torch.stack([loss.value.detach(), *loss.terms.values()])
    return torch.cat([terms, *(parameter.grad.flatten() for parameter in model.parameters())])


def difference(name, form, views, rank, world):
    """Relative difference between the shared and the single computation: value, terms and parameter gradients."""
    inputs, own = batch(world, views), slice(rank * ROWS, (rank + 1) * ROWS)
    alone = run(linear(), name, inputs, form, None)
    shared = run(DistributedDataParallel(linear()), name, [x[own] for x in inputs], form, dist.group.WORLD)
    return ((shared - alone).norm() / alone.norm()).item()


def uneven(rank):
    """What a rank with one row more than the others is told."""
    view = torch.randn(ROWS + (rank == 0), WIDTH)
    told = []
    for name in ("sfrik_l3", "vicreg"):
        try:
            registry.get(name)([view, view], **registry.get(name).resolve({}, WIDTH), group=dist.group.WORLD)
        except ValueError as error:
            told.append(str(error))
    return told


def main(rank, world, rendezvous, findings):
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=world)
    both = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins")
    forms = [(name, form) for name in registry.names() for form in (("primal", "dual") if name in both else ("auto",))]
    found = {
        f"{name} {form} {views}": difference(name, form, views, rank, world) for name, form in forms for views in (2, 3)
    }
    Path(findings).write_text(json.dumps({"differences": found, "uneven": uneven(rank)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
