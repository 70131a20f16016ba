# shellcheck shell=bash
# What the workflows share: numbered stages with their times, questions, names of runs. Sourced, never run.
#
#     stages_planned=9
#     stage train "Training" make train RUN=first      [6/9] Training ... [6/9] done in 4m 05s
#
# The sourcing script defines `chain_make`: run_make with its CONFIG and MODEL.
# A failed stage returns its exit code and leaves its key in `failed_stage`; what then happens is the caller's business.

project=$(CDPATH="" cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stages_planned=0
stages_begun=0
failed_stage=""
assume_yes=no

# stage KEY TITLE COMMAND [ARGUMENT...]
stage() {
    local key=$1 title=$2 started=$SECONDS code=0
    shift 2
    stages_begun=$((stages_begun + 1))
    bold "[$stages_begun/$stages_planned] $title"
    "$@" || code=$?
    if ((code)); then
        # shellcheck disable=SC2034 # the caller reads it
        failed_stage=$key
        bold "[$stages_begun/$stages_planned] $title: failed with exit code $code after $(duration $((SECONDS - started)))" >&2
        return "$code"
    fi
    echo "[$stages_begun/$stages_planned] done in $(duration $((SECONDS - started)))"
    echo
}

# make with one line a command and none about folders
run_make() {
    make --no-print-directory "$@"
}

# ask_yes QUESTION: whether to go on. Enter means yes; so does --yes, and the absence of anyone to ask.
ask_yes() {
    local answer
    if [[ $assume_yes == yes ]]; then
        return 0
    fi
    read -r -p "$1 [Y/n] " answer || answer=n # Ctrl-D
    [[ -z $answer || $answer == [yY]* ]]
}

# ask_text QUESTION DEFAULT: prints the answer; Enter, --yes and the absence of anyone to ask give the default.
ask_text() {
    local answer=""
    if [[ $assume_yes == no ]]; then
        read -r -p "$1 " answer || true
    fi
    echo "${answer:-$2}"
}

# train_to_the_end RUN [VARIABLE=VALUE...]: a training that was asked to stop ends well, with nothing to measure yet.
train_to_the_end() {
    chain_make train RUN="$1" "${@:2}" || return
    if [[ ! -f outputs/$1/summary.json ]]; then
        echo "The training was stopped before its end." >&2
        return 1
    fi
}

# merge_and_test RUN: nothing to do after a full fine-tune, whose result is a whole model already.
merge_and_test() {
    if [[ -f outputs/$1/adapter/config.json ]]; then
        echo "outputs/$1/adapter is a whole model: nothing to merge."
    else
        chain_make merge RUN="$1" && chain_make merge-test RUN="$1"
    fi
}

# Whether the interpreter of the environment is there and its core was installed to the end.
is_installed() {
    make --question "${VENV:-.venv}/.installed-core" >/dev/null 2>&1
}

# run_name_for TEXT: a name for a run that no finished run has, made of letters, digits, `.`, `_` and `-`.
run_name_for() {
    local name number=2
    name=$(LC_ALL=C tr -c 'A-Za-z0-9._\n-' '-' <<<"$1")
    name=${name#"${name%%[A-Za-z0-9]*}"}
    name=${name:-run}
    if [[ $name == tb ]]; then name=tb-data; fi # outputs/tb holds the curves of all runs
    local free=$name
    while [[ -f outputs/$free/summary.json ]]; do
        free=$name-$number
        number=$((number + 1))
    done
    echo "$free"
}

# from_project PATH: a path that was given from the current folder, as the project's folder sees it.
from_project() {
    local path=$PWD/$1
    case $1 in
        /* | hf:*) echo "$1" ;;
        *) echo "${path#"$project/"}" ;;
    esac
}

# find_config PATH: a config that may be given from the current folder or from the project's.
find_config() {
    if [[ -f $1 ]]; then
        from_project "$1"
    elif [[ -z $1 || -f $project/$1 ]]; then
        echo "$1"
    else
        usage_error "There is no config '$1'."
    fi
}

# find_model NAME: a file or folder from the current folder; all other names are for the model store.
find_model() {
    if [[ -e $1 ]]; then from_project "$1"; else echo "$1"; fi
}

duration() {
    if (($1 < 60)); then echo "${1}s"; else printf '%dm %02ds\n' $(($1 / 60)) $(($1 % 60)); fi
}

bold() {
    if [[ -t 1 ]]; then printf '\033[1m%s\033[0m\n' "$1"; else printf '%s\n' "$1"; fi
}

# usage_error TEXT
usage_error() {
    printf 'error: %s\n  Do this:  %s --help\n' "$1" "$0" >&2
    exit 2
}
