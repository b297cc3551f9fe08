#!/usr/bin/env bash
# Fails when an #include goes against the layers (CONTRIBUTING.md): client -> proto <- server -> core -> kernels, and
# inside core only downwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bad=0
# deny FOLDER PATTERN: no source under FOLDER includes a path that begins with PATTERN (extended regular expression).
deny() {
  local found
  [[ -d $1 ]] || { echo "layers.sh: no folder $1"; bad=1; return; }
  if found=$(grep -rnE --include='*.h' --include='*.cc' --include='*.cu' "^[[:space:]]*#[[:space:]]*include [\"<]($2)" "$1"); then
    printf '%s\n' "$found"
    bad=1
  fi
}
# allow FOLDER PATTERN: of our own folders, sources under FOLDER include only those of PATTERN.
allow() {
  local found
  [[ -d $1 ]] || { echo "layers.sh: no folder $1"; bad=1; return; }
  if found=$(grep -rnE --include='*.h' --include='*.cc' --include='*.cu' \
    '^[[:space:]]*#[[:space:]]*include "(client|core|kernels|server|tests|dreamstate|proto)/' "$1" | grep -vE "include \"($2)"); then
    printf '%s\n' "$found"
    bad=1
  fi
}

protobuf='google/protobuf|grpcpp/|grpc/|dreamstate/v1/|google/rpc/'
allow kernels 'kernels/'
deny kernels "absl/|torch/|$protobuf"
allow core/base 'core/base/'
allow core/picture 'core/(base|picture)/'
allow core/tensors 'core/(base|tensors)/|kernels/'
allow core/text 'core/(base|text)/|kernels/'
allow core/rwkv 'core/(base|tensors|text|rwkv)/|kernels/'
allow core/state 'core/(base|tensors|text|rwkv|state)/|kernels/'
allow core/repository 'core/(base|tensors|text|rwkv|state|repository)/|kernels/'
allow core/diffusion 'core/(base|tensors|text|rwkv|state|repository|diffusion)/|kernels/'
allow core/training 'core/(base|picture|tensors|text|rwkv|state|repository|diffusion|training)/|kernels/'
allow core/evaluation 'core/(base|picture|tensors|text|rwkv|state|repository|diffusion|training|evaluation)/|kernels/'
deny core "$protobuf"
for room in base picture tensors text rwkv state repository; do deny core/$room 'torch/'; done
# Measuring states takes linear algebra, but nobody who measures sees torch.
if grep -rnE --include='*.h' '#include <torch/' core/evaluation server; then bad=1; fi
allow server/inference 'server/inference/|core/|kernels/|dreamstate/v1/'
allow server/trainer 'server/trainer/|client/|core/|kernels/|dreamstate/v1/'
allow client 'client/|core/picture/|dreamstate/v1/'
deny client 'torch/'
deny server 'torch/'

# Torch and generated code never meet in one translation unit.
for file in $(grep -rlE --include='*.cc' --include='*.h' '#include <torch/' client core kernels server tests || true); do
  if grep -nHE "#include [\"<]($protobuf)" "$file"; then bad=1; fi
done

((bad == 0)) || { echo "layers.sh: the includes above go against the layers"; exit 1; }
echo "includes follow the layers"
