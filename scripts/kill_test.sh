#!/usr/bin/env bash
# Kills runs of every method at random moments, resumes them to their end and compares them with unbroken ones (tests/kill.rs).
#
#   scripts/kill_test.sh [ROUNDS]            100 by default
#   UNMIX_KILL_SEED=7                        other moments
#   UNMIX_KILL_DEVICE=wgpu-cpu               another device; where two unbroken runs differ, within what they do
set -euo pipefail
cd "$(dirname "$0")/.."
UNMIX_KILL_ROUNDS=${1:-100} cargo test --release --test kill -- --nocapture
