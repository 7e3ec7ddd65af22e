"""A Run: everything that decides a number, in one frozen value with a canonical hash."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from benchmark.networks.kernel_spec import BASE_KERNELS, KERNEL_METHODS, RegimeSpec, resolve_loss
from benchmark.runtime.spec import SettingError, Spec

# Raised whenever a change of the code changes the numbers of an unchanged Run: part of every hash.
PROTOCOL_VERSION = 1

Precision = Literal["fp32", "bf16", "fp16"]
Form = Literal["auto", "primal", "dual"]
# Rows to compare with, which train nothing: the images' pixels, and the network as it was initialised.
BASELINES = ("raw_pixels", "untrained")

Probe = Literal["logistic", "linear", "knn", "fewshot", "fewshot_svm", "fewshot_ridge", "embedding"]

# Fields of training, which a Run in the kernel regime has not: whatever a suite says, they hold these values there,
# and its record does not tell them. A closed form sees the data once: one epoch; a base kernel is not fitted: none.
_NO_TRAINING: dict[str, Any] = {
    "batch_size": 2,
    "precision": "fp32",
    "form": "auto",
    "joint_forward": False,
    "compile": False,
    "augmentation": "grey",
    "backbone": {"name": "small_cnn"},
    "projector": {},
    "optimizer": {"name": "sgd", "base_lr": 1.0},
}

# Fields that came after the first records. While they hold these values, records and hashes do not tell them.
_LATER: dict[str, Any] = {"regime": None, "compile": False}


class DataSpec(Spec):
    """Which images. ``tune_fraction`` of the training set is held out of training and never trained on."""

    source: str = Field(description="digits, mnist, cifar10, ..., npz:PATH or folder:PATH")

    tune_fraction: float = Field(0.1, gt=0, lt=1)
    image_size: int | None = Field(None, ge=8, description="side in pixels after augmentation; None: as stored")
    limit: int | None = Field(None, ge=2, description="train on so many images, stratified, for a cut budget")

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        from benchmark.data import check_source

        check_source(source)
        return source


class BackboneSpec(Spec):
    """The network whose features are evaluated. ``stem`` concerns the ResNets only."""

    name: Literal["small_cnn", "resnet18", "resnet34", "resnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"
    width: int = Field(32, ge=1, description="channels of the small CNN's first layer")
    zero_init_residual: bool = True


class ProjectorSpec(Spec):
    """``hidden-hidden-D``: ``layers`` of Linear, BatchNorm, ReLU, then a Linear without bias."""

    hidden: int = Field(8192, ge=2)
    layers: int = Field(2, ge=0)


class OptimizerSpec(Spec):
    """LARS as published, or AdamW or SGD. The learning rate is ``base_lr * batch_size / 256``."""

    name: Literal["lars", "adamw", "sgd"] = "lars"
    base_lr: float = Field(gt=0)
    weight_decay: float = Field(1e-6, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    trust_coefficient: float = Field(0.001, gt=0)
    warmup_epochs: float = Field(10, ge=0)
    final_lr_fraction: float = Field(0.001, ge=0, le=1)


class EvaluationSpec(Spec):
    """What is measured on the frozen network after the last epoch, and on which split.

    ``split: tune`` is for choosing hyper-parameters; ``split: test`` is read once, at the end.
    """

    split: Literal["test", "tune"] = "test"
    probes: tuple[Probe, ...] = ("knn", "logistic", "fewshot", "embedding")
    batch_size: int = Field(256, ge=1)
    knn_k: tuple[int, ...] = (10, 20, 100, 200)
    knn_temperature: float = Field(0.07, gt=0)
    logistic_c: float = Field(1.0, gt=0, description="inverse ridge of scikit-learn's logistic regression")
    linear_epochs: int = Field(100, ge=1)
    linear_lr: float = Field(0.4, gt=0, description="for a batch of 256")
    linear_weight_decay: float = Field(1e-6, ge=0)
    linear_crops: bool = Field(True, description="train the linear probe on random crops and flips, as published")
    labels_per_class: tuple[int, ...] = (1, 5, 10)
    draws: int = Field(10, ge=1)

    @field_validator("probes", "knn_k", "labels_per_class", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Run(Spec):
    """One training run with its evaluation. Two Runs with equal fields have one id and one folder."""

    method: str
    loss: dict[str, Any] = Field(default_factory=dict, description="the method's options, resolved")
    embedding_dim: int | None = Field(None, ge=2, description="None for the baselines, which embed nothing")
    batch_size: int = Field(ge=2, description="images in a step, over all processes")
    epochs: int = Field(ge=0, description="0: the untrained network is evaluated")
    seed: int = Field(0, ge=0)
    precision: Precision = "fp32"
    form: Form = "auto"
    joint_forward: bool = Field(False, description="one forward pass over both views, instead of one a view")
    compile: bool = Field(False, description="the network through torch.compile")
    data: DataSpec
    augmentation: str
    backbone: BackboneSpec
    projector: ProjectorSpec = ProjectorSpec()
    optimizer: OptimizerSpec
    evaluation: EvaluationSpec = EvaluationSpec()
    regime: RegimeSpec | None = Field(None, description="the kernel regime's settings; of its methods only")

    @model_validator(mode="before")
    @classmethod
    def _trains_nothing_in_the_kernel_regime(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("method") in KERNEL_METHODS:
            return {**fields, **_NO_TRAINING, "epochs": 0 if fields["method"] in BASE_KERNELS else 1}
        return fields

    @model_serializer(mode="wrap")
    def _what_concerns_the_method(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        unused = {name for name, value in _LATER.items() if getattr(self, name) == value}
        if self.regime is not None:
            unused |= set(_NO_TRAINING)
        return {name: value for name, value in fields.items() if name not in unused}

    @field_validator("augmentation")
    @classmethod
    def _known_recipe(cls, name: str) -> str:
        from benchmark.views import recipe

        return recipe(name).name

    def resolved(self) -> Run:
        """The Run with its method's options filled in, so that its hash covers the defaults it was run with.

        Raises ``ValueError`` where an option is not the method's, or its value is not allowed.
        """
        if self.method in KERNEL_METHODS:
            return self._resolved_in_the_kernel_regime()
        if self.regime is not None:
            return self.model_copy(update={"regime": None}).resolved()
        if self.method in BASELINES:
            probes = tuple(probe for probe in self.evaluation.probes if probe != "embedding")
            evaluation = self.evaluation.model_copy(update={"probes": probes})
            nothing: dict[str, Any] = {"loss": {}, "embedding_dim": None, "epochs": 0, "form": "auto", "compile": False}
            return self.model_copy(update={**nothing, "evaluation": evaluation})
        if self.embedding_dim is None:
            raise ValueError("embedding_dim must be given")
        from methods import registry

        loss = registry.get(self.method).resolve(self.loss, self.embedding_dim)
        return self.model_copy(update={"loss": dict(loss)})

    def _resolved_in_the_kernel_regime(self) -> Run:
        if self.regime is None:
            raise SettingError("regime", f"must be given for {self.method}")
        few = ("fewshot_svm", "fewshot_ridge")
        measured = few if self.method == "base_kernel_augmented" else (*few, "fewshot", "knn", "logistic")
        probes = tuple(probe for probe in self.evaluation.probes if probe in measured)
        return self.model_copy(
            update={
                "loss": resolve_loss(self.method, self.loss),
                "embedding_dim": None if self.method in BASE_KERNELS else self.embedding_dim,
                "evaluation": self.evaluation.model_copy(update={"probes": probes}),
                "regime": self.regime.resolved(self.method),
            }
        )

    @cached_property
    def digest(self) -> str:
        """Hex digest of the canonical form: sorted JSON of every field and of the protocol's version."""
        canonical = json.dumps({"protocol": PROTOCOL_VERSION, **self.model_dump(mode="json")}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def id(self) -> str:
        """The run's folder name: readable first, then enough of the digest to be unique."""
        dimension = f"-d{self.embedding_dim}" if self.embedding_dim else ""
        return f"{self.method}{dimension}-s{self.seed}-{self.digest[:10]}"


class Execution(Spec):
    """How a Run is carried out: nothing here changes a number, so nothing here is hashed."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int = Field(0, ge=0, description="data loading processes; 0 loads in the training process")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between two checkpoints; half of it at an epoch's end, the cleaner place"
    )
    data_root: str = Field("data", description="where torchvision's data sets lie")
    download: bool = False
