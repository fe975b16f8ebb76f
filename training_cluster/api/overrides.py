"""Further LLaMA-Factory keys that a request may set: the allow-list, with types and bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training_cluster.api.strict_model import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class Overrides(Strict):
    """Further LLaMA-Factory keys a request may set; whatever is not here is refused.

    Shown in docs/overrides.md. `adapters.llamafactory.config.ALLOWED` holds the same names: what
    comes another way than through this model is held against them."""

    max_steps: Count | None = Field(
        None,
        description="Optimizer steps in all, whatever `num_epochs` says. Default: none.",
    )
    warmup_ratio: Share | None = Field(
        None,
        description="Share of steps in which the learning rate rises. Default: none.",
    )
    warmup_steps: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="Steps in which the learning rate rises. Default: 0; in recipes a tenth.",
    )
    weight_decay: Share | None = Field(
        None, description="Decay of the weights by the optimizer. Default: 0."
    )
    max_grad_norm: float | None = Field(
        None, ge=0, le=1000, description="Gradients are clipped to this norm. Default: 1."
    )
    adam_beta1: Share | None = Field(
        None, description="AdamW's decay of the first moment. Default: 0.9."
    )
    adam_beta2: Share | None = Field(
        None, description="AdamW's decay of the second moment. Default: 0.999."
    )
    adam_epsilon: float | None = Field(
        None, gt=0, le=1, description="AdamW's guard against division by zero. Default: 1e-8."
    )
    lr_scheduler_type: (
        Literal[
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
        ]
        | None
    ) = Field(
        None,
        description="How the learning rate goes. Default: linear; the shipped recipes use cosine.",
    )
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adamw_8bit"] | None = (
        Field(
            None,
            description="The optimizer; adamw_8bit needs bitsandbytes. Default: adamw_torch_fused.",
        )
    )
    seed: int | None = Field(
        None, ge=0, le=2**32 - 1, description="Of everything random. Default: 42."
    )
    logging_steps: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Steps between two metric lines. Default: about a hundred lines a run.",
    )
    save_total_limit: int | None = Field(
        None, ge=1, le=1000, description="Checkpoints that are kept, the newest. Default: all."
    )
    eval_steps: Count | None = Field(
        None,
        description="Steps between evaluations, with `eval_strategy` steps. Default: none.",
    )
    eval_strategy: Literal["no", "steps", "epoch"] | None = Field(
        None,
        description="When to evaluate. Default: epoch with a validation file, else no.",
    )
    val_size: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of the examples that is kept for evaluation. Default: 0.",
    )
    per_device_eval_batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Examples per device in evaluation. Default: 8, or `batch_size`.",
    )
    packing: bool | None = Field(
        None, description="Several examples in one sequence. Default: only in stage pt."
    )
    neat_packing: bool | None = Field(
        None, description="Packed examples do not see one another. Default: false."
    )
    train_on_prompt: bool | None = Field(
        None, description="Learn the prompts, too. Default: false."
    )
    mask_history: bool | None = Field(
        None, description="Learn only the last turn of a conversation. Default: false."
    )
    bf16: bool | None = Field(
        None,
        description="Compute in bfloat16. Default: true on a GPU, false on a CPU.",
    )
    fp16: bool | None = Field(None, description="Compute in float16. Default: false.")
    gradient_checkpointing: bool | None = Field(
        None,
        description="Compute activations anew. Default: false; full_sft sets it.",
    )
    flash_attn: Literal["auto", "disabled", "sdpa", "fa2"] | None = Field(
        None, description="The attention kernel. Default: auto."
    )
    quantization_bit: Literal[4, 8] | None = Field(
        None,
        description="Load the model quantized (QLoRA); needs bitsandbytes. Default: not quantized.",
    )
    neftune_noise_alpha: float | None = Field(
        None, ge=0, le=100, description="Noise on the embeddings. Default: none."
    )
    use_rslora: bool | None = Field(
        None, description="Rank-stabilized scaling of LoRA. Default: false."
    )
    use_dora: bool | None = Field(None, description="Weight-decomposed LoRA. Default: false.")
    loraplus_lr_ratio: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="LoRA+: learning rate of B over that of A. Default: the same.",
    )
    freeze_trainable_layers: int | None = Field(
        None,
        ge=-1000,
        le=1000,
        description="Of freeze: how many last layers learn, below 0 the first. Default: 2.",
    )
    pref_beta: float | None = Field(
        None, ge=0, le=10, description="Beta of the preference loss. Default: 0.1."
    )
    pref_loss: Literal["sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"] | None = Field(
        None, description="The preference loss, in stage dpo. Default: sigmoid."
    )
    pref_ftx: float | None = Field(
        None, ge=0, le=100, description="Weight of the supervised loss in stage dpo. Default: 0."
    )
    label_smoothing_factor: Share | None = Field(
        None, description="Smoothing of the labels. Default: 0."
    )
    preprocessing_num_workers: int | None = Field(
        None, ge=1, le=64, description="Processes that tokenize. Default: one."
    )
    dataloader_num_workers: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Processes that load batches, for each device. Default: 0, the trainer itself.",
    )
