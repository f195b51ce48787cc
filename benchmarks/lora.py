"""LoRA steps: ours against Hugging Face's Trainer as it comes, at the same effective batch.

Both tune the same model (rank 8 on q_proj and v_proj, dropout 0.05, in the faster of bfloat16 and float32) on the same
tuning prompts of MovieLens-100K. The peer pads each batch to its longest prompt, computes the logits of the whole
vocabulary at every place and has its labels on the answer's token. Each side runs in a process of its own, since ours
tells the C library how to treat freed memory. Needs raw files and base model in the lake, as `language_model.py`.
Prints two JSON lines.

    python benchmarks/lora.py --steps 1 --batch 8     quickly
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from movielens import MovieLens
from peak import gflop_per_token, peak_gflops
from rows import print_row

from rallrec_pipeline.language_models.dtypes import resolve_dtype
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.settings import TuningSettings, lake_root, load_settings

SCALE = [str(n) for n in range(1, 6)]
TRAINER_BATCH = 8  # prompts of one forward pass of the peer: its default
ROUNDS = 2  # of both sides in turns; the faster one of each counts
SPEED_TARGET, PEAK_TARGET = 1.5, 0.6


def main() -> None:
    """Time both sides and the machine's matrix product; print the rows."""
    parser = argparse.ArgumentParser(description="LoRA steps against Hugging Face's Trainer.")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps that are timed, after one that is not")
    parser.add_argument("--batch", type=int, default=16, help="prompts of one step")
    parser.add_argument("--side", choices=("ours", "peer"), help="only this side, in this process")
    parser.add_argument("--dtype", default=resolve_dtype("auto"), help="of the model, on both sides")
    options = parser.parse_args()
    asked = (options.steps, options.batch, options.dtype)
    if options.side:
        print(json.dumps((ours if options.side == "ours" else peer)(*asked)))
        return
    rounds = [{side: run_side(side, *asked) for side in ("ours", "peer")} for _ in range(ROUNDS)]
    found = {side: min((r[side] for r in rounds), key=lambda result: result["seconds"]) for side in ("ours", "peer")}
    rates = {side: result["tokens"] / result["seconds"] for side, result in found.items()}
    print(f"padding of ours: {found['ours']['padding']:.1%}", file=sys.stderr)
    print_row("LoRA step", "useful tokens/s", rates["ours"], rates["peer"], "Trainer with its defaults", SPEED_TARGET)
    useful, peak = found["ours"]["useful"] / found["ours"]["seconds"], max(r["ours"]["peak"] for r in rounds)
    name, notes = "LoRA step, share of the peak", {"of all prompt tokens": rates["ours"] * found["ours"]["work"] / peak}
    product = f"{options.dtype} matrix product"
    print_row(name, "useful GFLOP/s", useful, peak, product, PEAK_TARGET, notes=notes)


def run_side(side: str, steps: int, batch: int, dtype: str) -> dict[str, Any]:
    """The last line of a process that does one side."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps), "--batch", str(batch)]
    command += ["--dtype", dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prompts_of(steps: int, batch: int) -> tuple[list[str], list[str]]:
    """Prompts and answers of one step that warms up and of those that are timed."""
    rows = MovieLens.read().prompts("rating", "train", (1 + steps) * batch, load_settings("demo"))
    rows = rows.sample(fraction=1, shuffle=True, seed=1)  # in no order of time
    return rows["prompt"].to_list(), rows["answer"].to_list()


def ours(steps: int, batch: int, dtype: str) -> dict[str, Any]:
    """Seconds of our steps, what went through the model, and the machine's peak in the same type."""
    from rallrec_pipeline.tuning.examples import make_example
    from rallrec_pipeline.tuning.lora import add_adapter
    from rallrec_pipeline.tuning.train import tune

    settings = load_settings("demo")
    tuning = TuningSettings(epochs=1, batch_size=batch)
    model = settings.model.model_copy(update={"dtype": dtype})
    engine = TransformersEngine.load(model_folder(lake_root(), model), model)
    trie = engine.trie(SCALE)
    pairs = zip(*prompts_of(steps, batch), strict=True)
    examples = [make_example(engine, trie, SCALE, p, a, [], False, 0.0) for p, a in pairs]
    add_adapter(engine, tuning, seed=1)
    times: list[float] = []
    result = tune(engine, examples, trie, lambda: 0.5, tuning, 1, lambda done, total: times.append(time.perf_counter()))
    work = 2 * gflop_per_token(engine.backbone)  # forward, and backward to the activations: no gradient of the matrices
    return {
        "seconds": times[-1] - times[0],
        "tokens": round(result.tokens * steps / (1 + steps)),
        "padding": result.padding,
        "work": work,
        # What prompts share is computed once and counted once, and padding is of no use.
        "useful": work * result.computed * (1 - result.padding) * steps / (1 + steps),
        "peak": peak_gflops(engine.model.dtype),
    }


def peer(steps: int, batch: int, dtype: str) -> dict[str, Any]:
    """Seconds of the Trainer's steps on the same prompts."""
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

    transformers.utils.logging.disable_progress_bar()
    folder = model_folder(lake_root(), load_settings("demo").model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=resolve_dtype(dtype))
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    rows = [
        {"input_ids": tokenizer(prompt)["input_ids"], "label": tokenizer(answer)["input_ids"][0]}
        for prompt, answer in zip(*prompts_of(steps, batch), strict=True)
    ]

    def collate(chosen: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(entry["input_ids"]) for entry in chosen) + 1
        ids, labels = torch.zeros(len(chosen), width, dtype=torch.long), torch.full((len(chosen), width), -100)
        mask = torch.zeros(len(chosen), width, dtype=torch.long)
        for place, entry in enumerate(chosen):
            n = len(entry["input_ids"])
            ids[place, : n + 1] = torch.tensor([*entry["input_ids"], entry["label"]])
            labels[place, n], mask[place, : n + 1] = entry["label"], 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder_of_output:
        size = min(TRAINER_BATCH, batch)
        arguments = TrainingArguments(
            output_dir=folder_of_output,
            num_train_epochs=1,
            learning_rate=1e-3,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=batch // size,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=get_peft_model(model, config),
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[Clock()],
        )
        trainer.train()
    tokens = sum(len(entry["input_ids"]) for entry in rows)
    return {"seconds": times[-1] - times[0], "tokens": round(tokens * steps / (1 + steps))}


if __name__ == "__main__":
    main()
