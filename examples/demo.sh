#!/bin/sh
# The main job on real data: two corpora of the same digits, one module, two feature tables that must agree.
set -eu
folder=${1:-demo}
rm -rf "$folder"
mkdir -p "$folder"
export TF_CPP_MIN_LOG_LEVEL=3

python examples/digits.py "$folder" 2>"$folder/digits.log" || { cat "$folder/digits.log" >&2; exit 1; }
for format in tfrecord parquet; do
    set -- embed --module "$folder/module" --signature image_feature_vector \
        --corpus "$folder/$format/part-*" --input image --key id --keep label --out "$folder/features-$format"
    printf '\n$ beamhub %s\n' "$*"
    beamhub "$@"
done
printf '\nfirst rows of both tables\n'
python examples/compare.py "$folder/features-tfrecord" "$folder/features-parquet"
