"""Step -> learning rate, as a pure function, so that a resumed run continues on the same curve.

Imports no torch. Taught in notebook 02.
"""

from __future__ import annotations

from fcnbook.recipe import ScheduleSpec


def learning_rate(step: int, base_lr: float, spec: ScheduleSpec) -> float:
    """The rate of step number `step`; the first step is 0, the last one `spec.num_steps` - 1.

    "poly" falls from `base_lr` to `spec.min_lr` as (base_lr - min_lr) (1 - step / num_steps)^power + min_lr;
    "fixed" stays at `base_lr`. During warm-up the rate of the policy is multiplied by (step + 1) /
    warmup_steps, so that the curve has no jump where warm-up ends.

    Raises:
        ValueError: the step lies outside 0 to num_steps, or "poly" would have to rise.

    Source: mmsegmentation's PolyLrUpdaterHook, by iteration.
    """
    if not 0 <= step <= spec.num_steps:
        raise ValueError(f"step must be in 0 to {spec.num_steps} (num_steps), got {step}")
    rate = base_lr
    if spec.policy == "poly":
        if base_lr < spec.min_lr:
            raise ValueError(
                f"min_lr {spec.min_lr:g} is above the learning rate {base_lr:g}; lower min_lr too"
            )
        rate = (base_lr - spec.min_lr) * (1 - step / spec.num_steps) ** spec.power + spec.min_lr
    if step < spec.warmup_steps:
        rate *= (step + 1) / spec.warmup_steps
    return rate
