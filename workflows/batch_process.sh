#!/usr/bin/env bash
# The whole chain over several data sets, one run each.
set -euo pipefail

usage() {
    cat <<'HELP'
./workflows/batch_process.sh [options] [PATH ...]

Processes, checks, trains, measures and merges each PATH (a raw file, a folder of them, or hf:org/name) as a run of its
own, named after it. Goes on after a failure; ends with a table, and with exit code 1 if any run failed.
Without a PATH: every file and folder in data/raw.

  --yes           ask nothing (also without a terminal)
  --model NAME    base model of all runs; by default what fits this machine
  --config FILE   config of all runs; by default configs/config_base.yaml
  --steps N       train each for N steps only
  --smoke         configs/run_smoke.yaml: does it all work here?
  --help          this text

Example: ./workflows/batch_process.sh --yes faq.csv support.jsonl notes/
HELP
}

# shellcheck source=workflows/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"

model="" config="" steps=""
sources=() runs=() states=() minutes=() scores=()

main() {
    read_options "$@"
    cd "$project"
    collect_sources
    name_runs
    show_plan
    ask_yes "Begin?" || exit 0
    prepare
    local index
    for index in "${!sources[@]}"; do
        process_one "$index"
    done
    show_table
}

read_options() {
    [[ -t 0 ]] || assume_yes=yes
    while (($#)); do
        case $1 in
            --yes | -y) assume_yes=yes ;;
            --smoke) config=configs/run_smoke.yaml ;;
            --help | -h) usage && exit 0 ;;
            --model | --config | --steps)
                (($# > 1)) || usage_error "$1 needs a value."
                printf -v "${1#--}" '%s' "$2"
                shift
                ;;
            -*) usage_error "There is no option $1." ;;
            *) sources+=("$(from_project "$1")") ;;
        esac
        shift
    done
    [[ -z $steps || $steps =~ ^[1-9][0-9]*$ ]] || usage_error "--steps takes a whole number above 0, not '$steps'."
    config=$(find_config "$config") || exit
    model=$(find_model "$model")
}

collect_sources() {
    local path
    if ((${#sources[@]} == 0)); then
        for path in data/raw/*; do
            [[ ! -e $path ]] || sources+=("$path")
        done
    fi
    ((${#sources[@]})) || usage_error "data/raw is empty and no PATH was given."
}

# Every source gets a name that no finished run and no other source has: faq.csv -> faq, a second one -> faq-2.
name_runs() {
    local path name wanted number
    for path in "${sources[@]}"; do
        name=$(basename "${path#hf:}")
        [[ -d $path ]] || name=${name%.*}
        wanted=$(run_name_for "$name")
        name=$wanted number=2
        while [[ " ${runs[*]-} " == *" $name "* ]]; do
            name=$(run_name_for "$wanted-$number")
            number=$((number + 1))
        done
        runs+=("$name")
    done
}

show_plan() {
    local index
    echo "${#sources[@]} data set(s), one run each; a failure does not stop the others."
    for index in "${!sources[@]}"; do
        printf '  %-24s %s\n' "outputs/${runs[index]}" "${sources[index]}"
    done
}

# What all runs need. Without it none can work, so a failure here ends the batch.
prepare() {
    stages_planned=2
    stage install "Installing" run_make install
    stage model "Fetching the base model" chain_make download-model
}

process_one() {
    local index=$1 started=$SECONDS
    local run=${runs[index]} source=${sources[index]}
    bold "== $run: $source"
    stages_planned=5 stages_begun=0 failed_stage=""
    if run_chain "$run" "$source"; then
        states[index]="done"
        scores[index]=$(rouge_of "$run")
    else
        states[index]="failed: $failed_stage"
        scores[index]=-
    fi
    minutes[index]=$(LC_ALL=C awk -v seconds=$((SECONDS - started)) 'BEGIN { printf "%.1f", seconds / 60 }')
}

# run_chain RUN SOURCE. Its splits lie in a folder of their own, so that no run sees another's.
run_chain() {
    local settings="data.processed_dir=data/processed/$1"
    stage process "Processing" chain_make process RAW="$2" SET="$settings" &&
        stage check "Checking" chain_make check SET="$settings" &&
        stage train "Training" train_to_the_end "$1" SET="$settings${steps:+ train.max_steps=$steps}" &&
        stage eval "Measuring" chain_make eval-test RUN="$1" SET="$settings" &&
        stage merge "Merging" merge_and_test "$1"
}

# rouge_of RUN: "0.21 -> 0.43", or "-" where it could not be computed.
rouge_of() {
    "${VENV:-.venv}/bin/python" - "outputs/$1/eval/test/metrics.json" <<'PYTHON' || echo -
import json, sys
with open(sys.argv[1], encoding="utf-8") as stream:
    metrics = json.load(stream)
print(" -> ".join("-" if value is None else f"{value:.3f}" for value in (metrics["base"]["rougeL"], metrics["tuned"]["rougeL"])))
PYTHON
}

chain_make() {
    run_make "$@" CONFIG="$config" MODEL="$model"
}

show_table() {
    local index failed=0
    echo
    printf '%-24s %-18s %8s  %s\n' run status minutes "rougeL base -> tuned"
    for index in "${!runs[@]}"; do
        printf '%-24s %-18s %8s  %s\n' "${runs[index]}" "${states[index]}" "${minutes[index]}" "${scores[index]}"
        [[ ${states[index]} == "done" ]] || failed=$((failed + 1))
    done
    echo
    if ((failed)); then
        echo "$failed of ${#runs[@]} failed; the reason stands above, at the stage's end." >&2
        return 1
    fi
    echo "All ${#runs[@]} done in $(duration "$SECONDS")."
}

main "$@"
