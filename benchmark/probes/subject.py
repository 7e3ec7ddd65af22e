"""A frozen network before a data set: its features, made once for all probes, by all processes, a part at a time.

Whole batches go round the processes, so that a batch holds the same images whatever their number, and its features are
the same to the last bit. What is made is kept on disk from time to time: a run that ends goes on from there.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from benchmark.data import DataSet, ImageSet
from benchmark.networks.base import Frozen, FrozenModule, frozen
from benchmark.probes.base import Measurement, Split
from benchmark.runtime import checkpoints
from benchmark.runtime.checkpoints import DamagedFile
from benchmark.runtime.errors import UserError, full_disk_told
from benchmark.runtime.numerics import AUTOCAST
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import key
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.spec import Execution
from benchmark.views import Recipe
from benchmark.views.loader import ViewLoader, plain_batches
from benchmark.views.recipes import Interpolation
from results.record import PROGRESS_NAME, ProtocolValue, write_atomically

_VIEWS_SEED = key("evaluation")
# What a process may tell the others before a collective, in the order of precedence.
GO_ON, STOP, FAILED = 0, 1, 2
# A part of the features is copied to be written: one of more bytes becomes several files.
PART_BYTES = 2**28
TOLD_SECONDS = 5.0

T = TypeVar("T")


class AllStopped(Interrupted):
    """Somebody asked one process to stop, and all of them know."""


class OtherFailed(Exception):
    """Another process failed, and has the cause; all of them know."""


@dataclass(frozen=True, eq=False)
class Features:
    """``x`` (N, F) and ``labels`` (N,) int64, on one device."""

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


# By the part of a data set, and how its images are resized.
Learnt = dict[tuple[str, Interpolation], Features]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a probe is given. ``augmentation`` is the recipe that the network was trained with, where there is one."""

    network: Frozen
    data: DataSet
    split: Split
    precision: str
    augmentation: str | None
    process: Process
    requests: Requests
    execution: Execution
    folder: Path
    own: Path  # a measurement's checkpoints, and how far it is
    tested_on: DataSet | None = None  # whose images are measured, where it is not ``data``
    _made: Learnt = field(default_factory=dict, repr=False)
    _told: list[float] = field(default_factory=lambda: [time.perf_counter()], repr=False)

    def of(self, measurement: Measurement) -> Subject:
        """The same subject, features made so far included, for a measurement with checkpoints of its own."""
        return replace(self, own=self.folder / measurement.id)

    @property
    def device(self) -> torch.device:
        return self.process.device

    def check(self) -> None:
        """Look at what was asked, and at the others: to be called by all processes, before every collective.

        Raises :class:`AllStopped` on all once somebody asked one to stop, :class:`OtherFailed` where one failed.
        """
        wanted = self.process.all_reduce_max(STOP if self.requests.run_must_end else GO_ON)
        if wanted == FAILED:
            raise OtherFailed
        if wanted == STOP:
            raise AllStopped("stopped; what it had is saved")

    def from_main(self, find: Callable[[], T]) -> T:
        """What the main process finds, on all; where it fails, or any was asked to stop, all hear of that instead."""
        found = find() if self.process.is_main else None
        self.check()
        return self.process.broadcast(found)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of the measurement, on the main process."""
        if self.process.is_main:
            checkpoints.save(self.own, step, state)

    def tell(self, what: str, done: int, total: int) -> None:
        """Note how far the measurement is, every few seconds; a note that cannot be written is no failure."""
        if not self.process.is_main or time.perf_counter() - self._told[-1] < TOLD_SECONDS:
            return
        self._told[-1] = time.perf_counter()
        with suppress(OSError):
            self.own.mkdir(parents=True, exist_ok=True)
            note = json.dumps({"what": what, "done": done, "total": total})
            (self.own / PROGRESS_NAME).write_text(note, encoding="utf-8")

    def resumed(self) -> dict[str, Any] | None:
        """The newest state that an earlier attempt at this measurement saved, on all processes."""
        # A damaged checkpoint is set aside as it is read, so one process looks for all.
        newest = self.from_main(lambda: checkpoints.newest_whole(self.own))
        return None if newest is None else checkpoints.load(newest, self.device)

    @contextmanager
    def kept(self, save: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Inside, to be called after every step: ``save`` comes whenever a checkpoint is due, and where it is stopped.

        That it cannot save as it is stopped is a warning: the others wait for no failure any more.
        """
        saved = time.perf_counter()

        def save_where_due() -> None:
            nonlocal saved
            if time.perf_counter() - saved > self.execution.checkpoint_seconds:
                save()
                saved = time.perf_counter()

        try:
            yield save_where_due
        except Interrupted:
            try:
                save()
            except (OSError, UserError) as error:
                warnings.warn(f"{self.folder}: what was done since the last checkpoint is lost: {error}", stacklevel=2)
            raise

    def dealt(self, what: str, count: int, find: Callable[[int], T]) -> list[T]:
        """``find`` of every number below ``count``, which go round the processes; what each found, on all of them.

        What was found is kept from time to time, so that a run that ends goes on from there. ``what`` is counted, in
        words.
        """
        found: list[T] = (self.resumed() or {}).get(what, [])
        with self.kept(lambda: self.save(len(found), {what: found})) as step_done:
            while len(found) < count:
                number = len(found) + self.process.rank
                own = find(number) if number < count else None
                self.check()
                found += [one for one in self.process.all_gather(own) if one is not None]
                self.tell(what, len(found), count)
                step_done()
        return found

    @property
    def queries_images(self) -> ImageSet:
        """The images that it is measured on."""
        measured = self.tested_on or self.data
        return measured.test if self.split == "test" else measured.tune

    def bank(self, interpolation: Interpolation = "bicubic") -> Features:
        """Of the labelled training images, to learn from; of some networks several rows of each."""
        return self._features("labelled", self.data.labelled, interpolation)

    def queries(self, interpolation: Interpolation = "bicubic") -> Features:
        """Of the images that are measured."""
        part = self.split if self.tested_on is None else f"{self.split} elsewhere"
        return self._features(part, self.queries_images, interpolation)

    def let_go(self) -> Learnt:
        """Forget all features; those to learn on and to choose by are given back, for what is tested on other data."""
        learnt = {name: made for name, made in self._made.items() if name[0] in ("labelled", "tune")}
        self._made.clear()
        return learnt

    def tune(self) -> Features:
        """Of the images held out, to choose by."""
        return self._features("tune", self.data.tune, "bicubic")

    def place(self, features: str | None = None) -> dict[str, ProtocolValue]:
        """The end of every protocol: what was looked at, on which images, after how many epochs of training."""
        told: dict[str, ProtocolValue] = {"features": features or self.network.name, "split": self.split}
        if self.network.epochs is not None:
            told["epoch"] = self.network.epochs
        if self.precision != "fp32":
            told["precision"] = self.precision
        measured = self.tested_on or self.data
        if self.tested_on is not None:
            told["tested_on"] = measured.short_name
        if isinstance(self.network, FrozenModule) and measured.image_size not in (0, self.network.input.image_size):
            told["resized"] = f"{measured.image_size} to {self.network.input.image_size}"
        return told

    @property
    def projector(self) -> nn.Module:
        return projector_of(self.network, self.folder.parents[1])

    def embedded(self, features: Features) -> Features:
        """The same images as the loss saw them: float32, a batch at a time through the projector."""
        projector, batch_size = self.projector, self.execution.feature_batch_size
        z_ND: Tensor | None = None  # not a list of parts: joining them would hold all of it twice
        for start in range(0, len(features), batch_size):
            self.requests.check()
            part_nD = projector(features.x[start : start + batch_size]).float()
            z_ND = part_nD.new_empty(len(features), part_nD.shape[1]) if z_ND is None else z_ND
            z_ND[start : start + len(part_nD)] = part_nD
        assert z_ND is not None
        return Features(z_ND, features.labels)

    def views(
        self, images: ImageSet, recipe: Recipe, batch_size: int, *, smallest: int | None = None, shared: bool = True
    ) -> ViewLoader:
        """Augmented views, the same for every network: this process's part of them, or all where not ``shared``."""
        assert isinstance(self.network, FrozenModule)
        process, how = self.process if shared else Process(self.device), {"batch_size": batch_size, "seed": _VIEWS_SEED}
        workers = self.execution.workers
        return ViewLoader(images, recipe, self.network.input, process, workers=workers, smallest=smallest, **how)

    def through(self, module: nn.Module, x_NCHW: Tensor) -> Tensor:
        """A frozen module's output in the measurement's precision, as float32."""
        dtype = AUTOCAST[self.precision]
        if dtype == torch.float32:
            return module(x_NCHW).float()
        with torch.autocast(self.device.type, dtype=dtype):
            return module(x_NCHW).float()

    def frozen(self) -> AbstractContextManager[None]:
        """Inside, the network is in evaluation mode, and nothing records gradients."""
        network = self.network
        return frozen((network.module, network.projector) if isinstance(network, FrozenModule) else ())

    def _features(self, part: str, images: ImageSet, interpolation: Interpolation) -> Features:
        network, name, learnt = self.network, (part, interpolation), part == "labelled"
        if name not in self._made:
            with self.frozen():
                if isinstance(network, FrozenModule):
                    x_ND = self._extracted(network, images, part, interpolation)
                else:
                    with self.requests.at_once():  # there are no batches after which to look at what was asked
                        x_ND = network.bank(images) if learnt else network.extract(images)
            # NaN comes through minimum and maximum, which make no copy.
            if len(x_ND) and not all(end.isfinite() for end in x_ND.aminmax()):
                raise UserError(f"the features of {part} hold NaN or infinity ({self.precision}): nothing to measure")
            labels_N = torch.from_numpy(images.labels).repeat_interleave(network.views if learnt else 1)
            self._made[name] = Features(x_ND, labels_N.to(x_ND.device))
        return self._made[name]

    def _extracted(self, network: FrozenModule, images: ImageSet, part: str, interpolation: Interpolation) -> Tensor:
        rank, world_size = self.process.rank, self.process.world_size
        batches = list(torch.arange(len(images)).split(self.execution.feature_batch_size))
        folder = self.folder / f"features-{part}-{interpolation}-{self.precision}"
        x_NF = torch.zeros(len(images), network.feature_dim, device=self.device)
        done = self.from_main(lambda: read_parts(folder, x_NF, batches))
        todo = [images_n for number, images_n in enumerate(batches) if number not in done]
        mine = todo[rank::world_size]
        how: dict[str, Any] = {"interpolation": interpolation, "workers": self.execution.workers}
        made = plain_batches(images, mine, network.input, self.device, **how)
        written = place = 0

        def write() -> None:
            nonlocal written
            write_parts(folder, rank, x_NF, mine[written:place])
            written = place

        with self.kept(write) as step_done:
            for place in range(1, 1 + -(-len(todo) // world_size)):
                if place <= len(mine):
                    x_NF[mine[place - 1].to(self.device)] = self.through(network.module, next(made))
                self.check()
                self.tell(f"features of {part}", min(len(done) + place * world_size, len(batches)), len(batches))
                step_done()
            self.check()  # also of the last part, which may not have fitted on the disk
        if self.process.is_main:
            (self.own / PROGRESS_NAME).unlink(missing_ok=True)
        return self.process.all_reduce_sum(x_NF)


def projector_of(network: Frozen, folder: Path) -> nn.Module:
    """What the loss saw features through. Raises :class:`UserError` where it was not kept."""
    projector = network.projector if isinstance(network, FrozenModule) else None
    if projector is None:
        raise UserError(f"{folder}: its projector was not kept (keep=backbone), so no embedding")
    return projector


def read_parts(folder: Path, x_NF: Tensor, batches: Sequence[Tensor]) -> set[int]:
    """Fill in features that earlier attempts made, whichever process did, whatever their batches were.

    Only what is there of whole ``batches``, the images of each; returns their numbers. A part that is damaged or of
    other features is left out with a warning.
    """
    images, features = x_NF.shape
    there_N = torch.zeros(images, dtype=torch.bool)
    for path in sorted(folder.glob("part-*.safetensors")):
        try:
            held = load_file(path)
            rows_n, x_nF = held["rows"], held["x"]
            if x_nF.shape != (len(rows_n), features) or x_nF.dtype != x_NF.dtype:
                wanted = f"rows of {features} {x_NF.dtype}"
                raise ValueError(f"holds {x_nF.dtype} of shape {tuple(x_nF.shape)}, not {wanted}")
            if len(rows_n) and not 0 <= int(rows_n.min()) <= int(rows_n.max()) < images:
                raise ValueError(f"holds images up to {int(rows_n.max())} of {images}")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            warnings.warn(f"{path} is damaged and left out: {error}", DamagedFile, stacklevel=2)
            continue
        x_NF[rows_n.to(x_NF.device)] = x_nF.to(x_NF.device)
        there_N[rows_n] = True
    done = {number for number, rows_n in enumerate(batches) if bool(there_N[rows_n].all())}
    for number, rows_n in enumerate(batches):
        if number not in done:
            x_NF[rows_n.to(x_NF.device)] = 0  # made anew, maybe by another process, and summed over all
    return done


def write_parts(folder: Path, rank: int, x_NF: Tensor, batches: Sequence[Tensor]) -> None:
    """Keep the rows of ``x_NF`` that these batches hold. Raises :class:`DiskFull` where they do not fit."""
    if not batches:
        return
    row_bytes = x_NF.element_size() * x_NF.shape[1]
    for rows_n in torch.cat(list(batches)).split(max(1, PART_BYTES // row_bytes)):
        held = {"rows": rows_n.contiguous(), "x": x_NF[rows_n.to(x_NF.device)].cpu().contiguous()}
        name = f"part-{int(rows_n[0]):09d}-{int(rows_n[-1]):09d}-{rank}.safetensors"
        with full_disk_told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, save(held))
