"""Where half precision costs a gradient more than a per cent: as measured in results/reference/precision."""

from __future__ import annotations

from benchmark.suite.run import Run

LARGEST_ERROR = 0.01
# The error of Barlow Twins' gradient in bf16 grows with D/N: it is 1.0 % at D = 32768, N = 256.
BARLOW_TWINS_RATIO = 128


def doubt(run: Run) -> str | None:
    """What to say before a Run whose loss's gradient has a relative error above :data:`LARGEST_ERROR`; else None."""
    if (run.method, run.precision) != ("barlow_twins", "bf16") or run.embedding_dim is None:
        return None
    if run.embedding_dim <= BARLOW_TWINS_RATIO * run.batch_size:
        return None
    return (
        f"{run.id}: in bf16 the gradient of Barlow Twins has an error above {100 * LARGEST_ERROR:g} % where D is more "
        f"than {BARLOW_TWINS_RATIO} times the batch; precision fp16 or fp32 has not"
    )
