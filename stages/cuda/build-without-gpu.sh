#!/usr/bin/env bash
# Builds `pipeline-cuda` on a machine without GPU and without CUDA: nvcc comes from Python packages, nothing is linked
# against CUDA, and no stand-in library is needed. Then shows that the program starts and says what it does not find.
#
#   stages/cuda/build-without-gpu.sh [FOLDER]     FOLDER keeps the packages, default /tmp/pipeline-cuda-toolkit
#
# Versions are those of driver 580 (CUDA 13.0): PTX of a newer nvcc would be refused by it. With TEST=1 the libraries
# are installed too (1 GB), and the tests compile the kernels with NVRTC and hand descriptors to cuDNN.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-/tmp/pipeline-cuda-toolkit}

packages=("cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.2")
if [ "${TEST:-0}" = 1 ]; then
  packages+=("cuda-toolkit[cublas,nvrtc]==13.0.2" "nvidia-cudnn-cu13==9.19.0.56")
fi
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "${packages[@]}"
packaged=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia
export NVCC="$packaged/cu13/bin/nvcc"
"$NVCC" --version | tail -2

if [ "${TEST:-0}" = 1 ]; then
  PIPELINE_CUDA_LIBRARIES="$packaged" cargo test --locked -p cuda --features cuda
fi
cargo build --release --locked --features cuda --bin pipeline-cuda
program=${CARGO_TARGET_DIR:-target}/release/pipeline-cuda
ls -l "$program"
readelf --dynamic "$program" | grep NEEDED
if readelf --dynamic "$program" | grep NEEDED | grep -q -e libcu -e libnv; then
  echo "error: the program is linked against CUDA" >&2
  exit 1
fi

status=0
"$program" selfcheck || status=$?
[ "$status" = 1 ] || [ "$status" = 0 ]
echo "pipeline-cuda selfcheck: exit status $status"
