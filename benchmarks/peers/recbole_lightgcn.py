"""RecBole's LightGCN, trained and read on request. Runs in the environment of requirements-recbole.txt.

Started in a folder that holds `data/data.{train,valid,test}.inter`. Reads lines from stdin: first the settings as JSON,
then requests. Answers each with a line of JSON: `train 5` trains five epochs (`seconds` and processor seconds `cpu` of
each), `vectors FILE` writes the propagated vectors of users and items, in the order of their ids, which are the numbers
from 0 on.
"""

import json
import sys
import time

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_seed

answers, sys.stdout = sys.stdout, sys.stderr  # whatever RecBole prints is no answer


def main(settings: dict) -> None:
    """Serve requests until stdin ends."""
    config = Config(model="LightGCN", dataset="data", config_dict={**SETTINGS, **settings})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, *_ = data_preparation(config, dataset)
    model = LightGCN(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    answer(ready=True)
    epoch = 0
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        if command == "train":
            times = []
            for _ in range(int(argument)):
                start, cpu = time.perf_counter(), time.process_time()
                trainer._train_epoch(train, epoch, show_progress=False)
                times.append((time.perf_counter() - start, time.process_time() - cpu))
                epoch += 1
            answer(seconds=[seconds for seconds, _ in times], cpu=[cpu for _, cpu in times])
        else:
            model.eval()
            with torch.no_grad():
                vectors = model.forward()
            names = zip(("user_id", "item_id"), vectors, strict=True)
            np.savez(argument.strip(), **{name: in_order(dataset, name, found) for name, found in names})
            model.train()
            answer(written=True)


SETTINGS = {
    "data_path": ".",
    "benchmark_filename": ["train", "valid", "test"],
    "load_col": {"inter": ["user_id", "item_id"]},
    "checkpoint_dir": "checkpoints",
    "metrics": ["Recall"],
    "topk": [20],
    "valid_metric": "Recall@20",
    "show_progress": False,
}


def in_order(dataset: object, field: str, vectors: torch.Tensor) -> np.ndarray:
    """`vectors` without RecBole's padding row, in the order of the ids in our files."""
    tokens = dataset.id2token(field, np.arange(1, len(vectors)))
    return vectors[1:].cpu().numpy()[np.argsort(tokens.astype(np.int64))]


def answer(**values: object) -> None:
    """One line of JSON for whoever asked."""
    print(json.dumps(values), file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))
