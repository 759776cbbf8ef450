#!/bin/sh
# Copies the CRDs of policy reports to crds/: openreports.io from the version of its API that the main module requires,
# wgpolicyk8s.io, which has no module of its own any more, from a release of Kyverno. Both are under the Apache License 2.0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kyverno=github.com/kyverno/kyverno@v1.19.1
folder() { sed -n 's/^\t"Dir": "\(.*\)".*/\1/p'; }
cd "$here"
from=$(go list -m -json github.com/openreports/reports-api | folder)
install -m 644 "$from"/config/crd/openreports.io_*.yaml crds/
cd /
from=$(go mod download -json "$kyverno" | folder)
install -m 644 "$from"/config/crds/policyreport/wgpolicyk8s.io_*.yaml "$here/crds/"
