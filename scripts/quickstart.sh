#!/usr/bin/env bash
# From nothing to an enlarged picture: installs what is missing, makes a small dataset from real photographs, trains a tiny
# HRIUSR x2, tests it against bicubic and enlarges a picture it has never seen. Run it again whenever you like.
#
#   bash scripts/quickstart.sh
#
# Wants Python 3.10, 3.11 or 3.12 (with venv), pip and about 6 GB of disk; a GPU is used where there is one.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
ensure_environment ""
cd "$ROOT"

RUN=quickstart_hriusr_x2
WEIGHTS="experiments/$RUN/models/net_g_latest.pth"
SMALL=datasets/demo/test/LR_bicubic/X2/chelseax2.png
ENLARGED="results/$RUN/chelsea_enlarged.png"
BETTER="results/$RUN/chelsea_enlarged_by_shipped_weights.png"
started=$SECONDS

step() {
    say "$1"
    shift
    "$@" || fail "this step failed, its message stands above: $*"
}

step "data: photographs that ship with scikit-image, low resolution by MATLAB's bicubic" \
    "$PYTHON" -m hriusr.cli prepare demo
step "training: options/train/$RUN.yml" \
    "$PYTHON" hriusr/train.py -opt "options/train/$RUN.yml"
step "test on two held-out photographs: options/test/$RUN.yml" \
    "$PYTHON" hriusr/test.py -opt "options/test/$RUN.yml"
step "enlarging $SMALL" \
    "$PYTHON" -m hriusr.cli upscale "$SMALL" --weights "$WEIGHTS" --output "$ENLARGED" --overwrite
step "enlarging it by the weights that come along, which were trained on more pictures for longer" \
    "$PYTHON" -m hriusr.cli upscale "$SMALL" --output "$BETTER" --overwrite

say "done in $((SECONDS - started)) seconds"
cat <<EOT
  data        datasets/demo
  training    experiments/$RUN (log, options in force, weights: models/net_g_latest.pth)
  curves      $PYTHON -m tensorboard.main --logdir tb_logger
  test        results/$RUN (report as CSV, JSON and Markdown; pictures)
  enlarged    $ENLARGED, from $SMALL
              $BETTER, by the weights that come along
Next: your own pictures:  $PYTHON -m hriusr.cli upscale PICTURE_OR_FOLDER
      a real training:    datasets/README.md for the data, then options/train/hriusr_light_x2.yml
EOT
