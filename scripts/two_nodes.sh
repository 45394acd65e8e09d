#!/usr/bin/env bash
# Trains on two "machines": two network namespaces of this one, joined by a virtual cable (10.99.0.1 and 10.99.0.2), a
# torchrun in each. Shows that several nodes work without having any. Needs root, ip and python; skips politely elsewhere.
#     bash scripts/two_nodes.sh [PYTHON]         # default: that of the active environment, else .venv's, else python3
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${1:-${VIRTUAL_ENV:-${CONDA_PREFIX:-$ROOT/.venv}}/bin/python}"
[[ $# -gt 0 || -x $PYTHON ]] || PYTHON=python3
NODE=hriusr$$
WORK="$(mktemp -d)"

skip() { echo "skipped: $1"; rm -rf "$WORK"; exit 0; }
[[ "$(id -u)" == 0 ]] || skip "network namespaces need root"
command -v ip >/dev/null || skip "no ip command (iproute2)"
ip netns add "${NODE}a" 2>/dev/null || skip "this machine makes no network namespaces"

cleanup() {
    for node in "${NODE}a" "${NODE}b"; do ip netns del "$node" 2>/dev/null || true; done
    rm -rf "$WORK"
}
trap cleanup EXIT
ip netns add "${NODE}b"
ip link add "v$$a" netns "${NODE}a" type veth peer name "v$$b" netns "${NODE}b" || skip "no virtual cable (veth)"
for side in a b; do
    [[ $side == a ]] && address=10.99.0.1 || address=10.99.0.2
    ip -n "$NODE$side" addr add "$address/24" dev "v$$$side"
    ip -n "$NODE$side" link set "v$$$side" up
    ip -n "$NODE$side" link set lo up
done

cd "$WORK"
export PYTHONPATH="$ROOT" OMP_NUM_THREADS=1
"$PYTHON" - <<'PY'
from pathlib import Path
import numpy, skimage.data
from hriusr.data.image_io import write_image
for name in ("astronaut", "chelsea", "coffee"):
    write_image(Path("gt", f"{name}.png"), numpy.ascontiguousarray(getattr(skimage.data, name)()[100:196, 100:196, :3]))
PY
cat >run.yml <<'YML'
name: two_nodes
scale: 2
num_gpu: 0
datasets:
  train: {name: photos, type: PairedImageDataset, dataroot_gt: gt, gt_size: 32, batch_size_per_gpu: 2}
  val: {name: photos, type: PairedImageDataset, dataroot_gt: gt}
network_g: {type: HRIUSR, upscale: 2, embed_dim: 12, depths: [2], num_heads: 2, low_resolution_depth: 1}
train:
  total_iter: 6
  optim_g: {type: Adam, lr: 1.0e-3}
  scheduler: {type: MultiStepLR, milestones: [5]}
  pixel_opt: {type: L1Loss}
val: {val_freq: 6, metrics: {psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}}}
logger: {print_freq: 2, save_checkpoint_freq: 6, use_tb_logger: false}
YML

start() { # node's letter, its number
    GLOO_SOCKET_IFNAME="v$$$1" ip netns exec "$NODE$1" "$PYTHON" -m torch.distributed.run --nnodes 2 --node_rank "$2" \
        --nproc_per_node 1 --master_addr 10.99.0.1 --master_port 29500 \
        "$ROOT/hriusr/train.py" -opt run.yml --launcher pytorch
}
start b 1 &
other=$!
start a 0
wait "$other"
[[ -f experiments/two_nodes/models/net_g_6.pth && "$(find experiments/two_nodes -name 'train_*.log' | wc -l)" == 1 ]]
echo "two nodes trained together: the second wrote nothing, both ended well"
