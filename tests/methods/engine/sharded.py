"""Four gloo processes: every method on a share of the batch under DDP against one process on the whole batch.

Groups of 2, 3 and 4 of the processes share a batch in turn. They are forked from this one, which has imported torch:
that is what takes the time.
"""

import json
import multiprocessing
from contextlib import nullcontext

import torch
import torch._dynamo  # DistributedDataParallel imports it on first use
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from methods import Pairing, modules, registry
from tests.methods.small import small
from tests.patience import PATIENCE

PROCESSES, ROWS, INPUTS, WIDTH = 4, 5, 4, 7  # rows a rank
# (ranks of the group, views, how they are paired)
BATCHES = [
    *((2, 2, None), (3, 3, None), (4, 2, None)),
    *((2, 4, Pairing.swav(2, 2)), (3, 3, Pairing.obow(2, "original"))),
]
TWO_FORMS = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr")
CASES = [(name, form) for name in registry.names() for form in (("primal", "dual") if name in TWO_FORMS else ("auto",))]


def batch(world, views):
    generator = torch.Generator().manual_seed(3)
    return list(torch.randn(views, world * ROWS, INPUTS, generator=generator, dtype=torch.float64))


def linear():
    torch.manual_seed(4)
    return torch.nn.Linear(INPUTS, WIDTH, dtype=torch.float64)


def run(model, name, inputs, **options):
    """Loss of the views with its terms, and the gradient of the layer's parameters, in one vector."""
    model.zero_grad()
    views = model(torch.cat(inputs)).chunk(len(inputs))
    loss = small(name)(views, **options)
    loss.value.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return torch.cat([torch.stack([loss.value.detach(), *loss.terms.values()]), gradient])


def differences(rank, group, world, views, pairing):
    """Relative difference of the shared from the single computation, a case."""
    inputs, own = batch(world, views), slice(rank * ROWS, (rank + 1) * ROWS)
    shared_inputs = [view[own] for view in inputs]
    alone, shared = linear(), DistributedDataParallel(linear(), process_group=group)
    found = {}
    for name, form in CASES:
        expected = run(alone, name, inputs, form=form, pairing=pairing)
        got = run(shared, name, shared_inputs, form=form, pairing=pairing, group=group)
        found[f"{name} {form} {views} views {world}"] = ((got - expected).norm() / expected.norm()).item()
    return found


def accumulated(model, criterion, batches):
    """The gradient of the layer's parameters after these batches, of which all but the last are not yet averaged."""
    model.zero_grad()
    for index, inputs in enumerate(batches):
        waits = index + 1 < len(batches) and isinstance(model, DistributedDataParallel)
        with model.no_sync() if waits else nullcontext():
            criterion(*model(torch.cat(inputs)).chunk(len(inputs))).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def module_differences(rank, group, world):
    """As `differences`, of modules that are given the group, over two batches whose gradients accumulate."""
    batches, own = [batch(world, 2), [view + 1 for view in batch(world, 2)]], slice(rank * ROWS, (rank + 1) * ROWS)
    found = {}
    for make in (modules.SFRIK, modules.SUSReg, modules.BarlowTwins, modules.VNE):
        expected = accumulated(linear(), make(), batches)
        shared = DistributedDataParallel(linear(), process_group=group)
        got = accumulated(shared, make(group=group), [[view[own] for view in inputs] for inputs in batches])
        found[make.__name__] = ((got - expected).norm() / expected.norm()).item()
    return found


def uneven(rank):
    """What the ranks are told when the first has one row more."""
    view = torch.randn(ROWS + (rank == 0), WIDTH)
    told = []
    for name in ("sfrik_l3", "vicreg"):
        method = registry.get(name)
        try:
            method([view, view], group=dist.group.WORLD)
        except ValueError as error:
            told.append(str(error))
    return told


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    found = {}
    for world, *paired_views in BATCHES:
        group = dist.new_group(list(range(world)))
        if rank < world:
            found |= differences(rank, group, world, *paired_views)
    of_modules = module_differences(rank, dist.group.WORLD, PROCESSES)
    report = {"differences": found, "modules": of_modules, "uneven": uneven(rank)}
    (folder / f"{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


def findings_in(folder):
    """What each of the processes found; it leaves that in the folder as JSON."""
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=work, args=(rank, folder)) for rank in range(PROCESSES)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(PATIENCE)
        rank.kill()
    assert not any(rank.exitcode for rank in ranks)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
