"""Noise2Void by CAREamics 0.3, for `quality.py --peer n2v`, in a Python that has careamics and not this project.

    python peer_n2v.py FOLDER MINUTES SEED

Trains on FOLDER/noisy.npy, all with the defaults of CAREamics and the patches and batches of its examples, and writes
FOLDER/denoised.npy of FOLDER/planes.npy, and FOLDER/about.json.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np

EPOCHS = 100_000  # more than there is time for


def main(folder: Path, minutes: float, seed: int) -> None:
    from careamics import CAREamist  # type: ignore[import-not-found]
    from careamics.config.factories.n2v_factory import create_advanced_n2v_config  # type: ignore[import-not-found]
    from lightning.pytorch.callbacks import Timer  # type: ignore[import-not-found]

    noisy, planes = (np.load(folder / name).astype(np.float32) for name in ("noisy.npy", "planes.npy"))
    config = create_advanced_n2v_config(
        "n2v", data_type="array", axes="SYX", patch_size=[64, 64], batch_size=16, num_epochs=EPOCHS, seed=seed + 1
    )
    timer = Timer(timedelta(minutes=minutes))
    careamist = CAREamist(config, work_dir=folder, callbacks=[timer], enable_progress_bar=False)
    careamist.train(train_data=noisy)
    trained, steps = timer.time_elapsed("train") / 60, careamist.trainer.global_step
    last = folder / "last.ckpt"  # its own is that of the last whole epoch
    careamist.trainer.save_checkpoint(last)
    began = time.perf_counter()
    found, _ = careamist.predict(planes, batch_size=1, checkpoint=last)
    seconds = time.perf_counter() - began
    np.save(folder / "denoised.npy", np.stack(found).reshape(planes.shape))
    about = {"minutes": trained, "steps": steps, "seconds": seconds, "note": f"careamics {version('careamics')}"}
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("seed", type=int)
    main(**vars(parser.parse_args()))
