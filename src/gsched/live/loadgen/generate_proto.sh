#!/bin/sh
# Generate the code in generated/ from every file in proto/; needs grpcio-tools. PYTHON names another interpreter.
set -eu
cd "$(dirname "$0")"

"${PYTHON:-python3}" -m grpc_tools.protoc -I proto \
  --python_out=generated --pyi_out=generated --grpc_python_out=generated proto/*.proto

# protoc takes the modules for top-level ones, and leaves an empty service module for a proto without a service.
for module in generated/*_pb2_grpc.py; do
  if ! grep -q '^class ' "$module"; then
    rm "$module"
    continue
  fi
  sed 's/^import \([a-z_]*_pb2\) as/from gsched.live.loadgen.generated import \1 as/' "$module" >"$module.new"
  mv "$module.new" "$module"
done
