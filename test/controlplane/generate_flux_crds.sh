#!/bin/sh
# Regenerates crds/ from the version of Flux's source api that test/tools/flux requires.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../tools/flux"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
go tool controller-gen crd paths=github.com/fluxcd/source-controller/api/v1 "output:crd:dir=$out"
for kind in buckets gitrepositories ocirepositories; do
	cp "$out/source.toolkit.fluxcd.io_$kind.yaml" "$here/crds/"
done
