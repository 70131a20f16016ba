# The front door: every capability is one target, each a thin line over a script. `make` alone shows them all.
#
# A line "target: ... ## text" and a line "##@ Group" are what `make help` prints, and so is "#: VARIABLE  text".

#: CONFIG     config file                                    CONFIG=configs/run_bnb.yaml
#: SET        settings over the config's, blank-separated    SET="train.epochs=1 tuning.lora.r=8"
#: MODEL      base model: hub id, folder, .gguf, pip:PACKAGE MODEL=Qwen/Qwen2.5-3B-Instruct
#: RUN        name of the run to make or to use              RUN=first-try
#: FRESH      1: train anew beside a run of this name         FRESH=1
#: ACCELERATE several GPUs: ddp, fsdp2, zero2, zero3; single  ACCELERATE=fsdp2
#: PROCESSES  how many of them (default 2)                 PROCESSES=4
#: RAW        your data: file, folder or hf:org/name         RAW=faq.csv
#: DATA       splits to use: processed, styled or rendered   DATA=styled; of `bench`, as RAW
#: DRY_RUN    1: `prepare` says what it would write          DRY_RUN=1
#: DEBUG      rows of each data set that `prepare` shows     DEBUG=2
#: STYLE      rule for `style` and `full-pipeline`           STYLE="Answer in one sentence."
#: FILES      what `mix` mixes, with weights                 FILES="a.jsonl:2 b.jsonl:1"
#: SYSTEM     of `augment`: a system message, or @FILE       SYSTEM=@systems.txt
#: PERSONA    of `augment`: a persona, or @FILE              PERSONA="You are a patient teacher."
#: ENDPOINT   of `augment`: a server that rewrites answers   ENDPOINT=http://localhost:8000/v1
#: OPTIONS    further options of `augment` and `mix`         OPTIONS="--structure --share structure=0.3"
#: LIMIT      rows that are evaluated                        LIMIT=50
#: ROW        row that `why` and `blocklist` are about         ROW=faq.jsonl:17
#: ADAPTER    adapter to use instead of the newest run's     ADAPTER=outputs/first-try/adapter
#: PROMPT     one question for `infer`                       PROMPT="Why is the sky blue?"
#: INPUT      file that `infer-batch` reads                  INPUT=questions.txt
#: OUTPUT     file that `infer-batch` writes, or the merged model's folder
#: NAME       folder that `init` makes                     NAME=my-project
#: FROM       of `convert-config`: axolotl or llamafactory  FROM=axolotl
#: IN         config that `convert-config` reads             IN=x.yml
#: OUT        file that `convert-config`, `augment`, `mix` write, and that `blocklist` adds to
#: DEVICES    GPUs that took part there                  DEVICES=4
#: FORCE      1: `convert-config` writes over OUT           FORCE=1
#: CARD       GiB of the card that `estimate` is about     CARD=12
#: FAIL_ON    findings that make `analyze` exit with 3    FAIL_ON=leaks,conflicts
#: NO_TOKENS  1: `analyze` counts words and needs no model  NO_TOKENS=1
#: CASE       the one case that `fuzz` runs                    CASE=data:137
#: WORKLOAD   of `bench`: train, prepare, generate, startup, scaling, gpu, large
#: MODE       of `bench`: lora or qlora                   MODE=qlora
#: ROWS       rows that `bench` works on, or `mix` makes       ROWS=96
#: ROUNDS     runs of each in `bench`                     ROUNDS=2
#: PEERS      those that `bench` measures beside us       PEERS="trainer trl"
#: PEER_VENVS environments of peers that are elsewhere    PEER_VENVS="trl=/tmp/trl"
#: STEPS      steps that `profile` looks at               STEPS=5
#: TB_PORT    port of TensorBoard                            TB_PORT=6007
#: VENV       the Python environment                         VENV=/tmp/env
#: PYTHON     interpreter that it is built on                PYTHON=python3.12
#: INSTALLER  uv or pip; by default uv where there is one    INSTALLER=pip
#: EXTRAS     optional parts for `install`                   EXTRAS="wandb unsloth"

TB_PORT ?= 6006
VENV ?= .venv
INSTALLER ?= auto
EXTRAS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
SHELL := bash
# The environment alone says what is imported: a PYTHONPATH from elsewhere breaks it in ways that nobody understands.
unexport PYTHONPATH PYTHONHOME

# -- From variables to options --------------------------------------------------------------------------------------

python := $(VENV)/bin/python
core := $(VENV)/.installed-core
dev := $(VENV)/.installed-dev

quote = '$(subst ','\'',$(1))'
quote_given = $(if $(value $(1)),$(call quote,$(value $(1))))
option = $(if $(value $(1)),$(2) $(call quote_given,$(1)))
setting = $(if $(value $(1)),--set $(call quote,$(2)=$(value $(1))))

folder_processed := data/processed
folder_styled := data/processed_with_style
folder_rendered := data/rendered
ifneq ($(if $(filter bench,$(MAKECMDGOALS)),,$(DATA)),)
ifeq ($(folder_$(DATA)),)
$(error DATA=$(DATA) is none of processed, styled, rendered)
endif
splits = $(foreach split,train val test,--set data.$(split)_path=$(folder_$(DATA))/$(split).jsonl)
endif

# What every script takes; the argument is the config that is read when CONFIG names none.
common = --config $(if $(value CONFIG),$(call quote,$(value CONFIG)),$(1)) $(call setting,MODEL,model.name) \
	$(foreach pair,$(value SET),--set $(call quote,$(pair)))
base := configs/config_base.yaml

# `accelerate launch` starts one process a GPU; configs/accelerate/ says what each of them holds.
ifneq ($(ACCELERATE),)
ifeq ($(wildcard configs/accelerate/$(ACCELERATE).yaml),)
$(error ACCELERATE=$(ACCELERATE) is none of $(patsubst configs/accelerate/%.yaml,%,$(wildcard configs/accelerate/*.yaml)))
endif
ifneq ($(filter zero2 zero3,$(ACCELERATE)),)
ifeq ($(wildcard $(VENV)/lib/python3*/site-packages/deepspeed),)
$(error ACCELERATE=$(ACCELERATE) needs the package deepspeed. Do this: make install EXTRAS=deepspeed)
endif
endif
launch = -m accelerate.commands.launch --config_file configs/accelerate/$(ACCELERATE).yaml $(call option,PROCESSES,--num_processes)
else ifneq ($(PROCESSES),)
$(error PROCESSES=$(PROCESSES) says how many, and nothing says how. Do this: ACCELERATE=ddp, or fsdp2)
endif

train = $(python) $(if $(ACCELERATE),$(strip $(launch)) )scripts/train.py $(strip $(call common,$(1)) $(splits) $(call setting,RUN,run_name) \
	$(if $(value FRESH),--fresh))
evaluate = $(python) scripts/eval.py $(strip $(call common,$(base)) $(splits) $(tuned) $(1))
infer = $(python) scripts/infer.py $(strip $(call common,$(base)) $(tuned) $(1))
merge = $(python) scripts/merge_lora.py $(strip $(call common,$(base)) $(1))
tensorboard = $(python) scripts/tensorboard_server.py
of_config = $(call option,CONFIG,--config)
more = $(foreach one,$(value OPTIONS),$(call quote,$(one)))
tuned = $(call option,RUN,--run) $(call option,ADAPTER,--adapter)
to_merge = $(if $(value ADAPTER),$(call option,ADAPTER,--adapters),$(call option,RUN,--run))
merged = $(call option,OUTPUT,--out)

##@ Setting up
.PHONY: help install install-unsloth setup-dirs download-model init convert-config templates

help: ## this list
	@awk -f scripts/help.awk $(firstword $(MAKEFILE_LIST))

install: $(core) $(EXTRAS:%=$(VENV)/.installed-%) setup-dirs ## make or update the environment in .venv
	@echo "Installed: $(VENV). Next: make full-pipeline, then make train; or all of it by ./workflows/quick_start.sh"

install-unsloth: $(core) $(VENV)/.installed-unsloth setup-dirs ## the Unsloth backend on top: Linux or WSL, with a GPU
	@echo "Installed: Unsloth in $(VENV). Next: make verify-unsloth, make train-unsloth"

setup-dirs: ## make the folders for data, models and results
	@mkdir -p data/raw data/processed data/processed_with_style data/rendered models outputs adapters

download-model: $(core) ## fetch the base model into models/ (MODEL=...)
	$(python) scripts/download_model.py $(strip $(call common,$(base)))

init: $(core) ## a folder of your own for configs, data and results (NAME=my-project)
	$(python) scripts/init_project.py $(call quote_given,NAME)

convert-config: $(core) ## a config of Axolotl or LLaMA-Factory (FROM, IN) as one of ours (OUT=configs/mine.yaml)
	$(python) scripts/convert_config.py $(strip $(call option,FROM,--from) $(call option,IN,--in) $(call option,OUT,--out) \
		$(call option,DEVICES,--devices) $(if $(value FORCE),--force))

templates: $(core) ## the chat templates there are, and which of them fits the model (MODEL=...)
	$(python) scripts/templates.py $(strip $(call common,$(base)))

##@ Data
.PHONY: augment mix process style render full-pipeline analyze prepare check rehearse

augment: $(core) ## more and other rows: system messages, personas, turns, Markdown, another style (RAW, OUT)
	$(python) scripts/augment.py $(strip $(call quote_given,RAW) $(call option,OUT,--out) $(call common,$(base)) \
		$(call option,SYSTEM,--system) $(call option,PERSONA,--persona) $(call option,ENDPOINT,--endpoint) \
		$(call option,MODEL,--model) $(call option,STYLE,--instruction) $(more))

mix: $(core) ## files into one: weighted, shuffled, without doubles (FILES="a.jsonl:2 b.jsonl:1", OUT)
	$(python) scripts/mix.py $(strip $(foreach one,$(value FILES),$(call quote,$(one))) $(call option,OUT,--out) \
		$(call common,$(base)) $(call option,ROWS,--rows) $(more))

process: $(core) ## data/raw -> data/processed/{train,val,test}.jsonl
	$(python) scripts/process_data.py $(strip $(call common,$(base)) $(call option,RAW,--raw_path))

style: $(core) ## put a rule into every conversation (STYLE="...") -> data/processed_with_style
	$(python) scripts/style_prompt.py $(strip $(call common,$(base)) $(call option,STYLE,--style))

render: $(core) ## processed (or DATA=styled) conversations as the model's text -> data/rendered
	$(python) scripts/render_template.py $(strip $(call common,$(base)) $(call option,DATA,--from))

full-pipeline: $(core) ## the complete data pipeline: process, style when STYLE is given, render
	$(python) scripts/process_data.py $(strip $(call common,$(base)) $(call option,RAW,--raw_path))
	$(if $(value STYLE),$(python) scripts/style_prompt.py $(strip $(call common,$(base)) $(call option,STYLE,--style)))
	$(python) scripts/render_template.py $(strip $(call common,$(base)) --from $(if $(value STYLE),styled,processed))

analyze: $(core) ## what is wrong with the processed data, how long it is (FAIL_ON) -> outputs/analysis/report.html
	$(python) scripts/analyze.py $(strip $(call common,$(base)) $(splits) $(call option,FAIL_ON,--fail-on) \
		$(if $(value NO_TOKENS),--no-tokens))

prepare: $(core) ## all of it beforehand: rows split, rendered, cut, mixed -> data/prepared as Parquet (DRY_RUN=1, DEBUG=2)
	$(python) scripts/prepare.py $(strip $(call common,$(base)) $(splits) $(if $(value DRY_RUN),--dry-run) $(call option,DEBUG,--debug))

check: $(core) ## look before you train: versions, data, kernels, mask, memory, disk, ten steps
	$(python) scripts/check.py $(strip $(call common,$(base)) $(splits))

rehearse: $(core) ## the whole work once on your data, with a tiny random model: no GPU, two minutes
	$(python) scripts/rehearse.py $(strip $(call common,$(base)) $(splits) $(call option,RAW,--raw_path))

##@ Training
.PHONY: estimate estimate-verify train train-bnb train-unsloth train-with-tb train-bnb-tb train-unsloth-tb stop
.PHONY: verify-unsloth

estimate: $(core) ## GPU memory that a training will take, from numbers alone (CARD=...)
	$(python) scripts/estimate.py $(strip $(call common,$(base)) $(call option,CARD,--card))

estimate-verify: $(core) ## train random weights on this GPU: estimate and measured peak side by side
	$(python) scripts/estimate.py $(strip $(call common,$(base)) --verify)

train: $(core) ## train -> outputs/<run>/adapter
	$(call train,$(base))

train-bnb: $(core) ## train with configs/run_bnb.yaml (QLoRA, bitsandbytes)
	$(call train,configs/run_bnb.yaml)

train-unsloth: $(core) ## train with configs/run_unsloth.yaml
	$(call train,configs/run_unsloth.yaml)

verify-unsloth: $(core) ## on a GPU: the same steps with bnb and Unsloth; losses, speed and memory side by side
	$(python) scripts/verify_unsloth.py $(strip $(call common,configs/run_unsloth.yaml) $(splits))

train-with-tb: tensorboard train ## train, with TensorBoard beside it
train-bnb-tb: tensorboard train-bnb ## train-bnb, with TensorBoard beside it
train-unsloth-tb: tensorboard train-unsloth ## train-unsloth, with TensorBoard beside it

stop: $(core) ## end the training in progress (or RUN=...) after its step, with a checkpoint to go on from
	$(python) scripts/stop.py $(strip $(call common,$(base)) $(call option,RUN,--run))

##@ Rows
.PHONY: why blocklist

why: $(core) ## the life of a row (ROW=faq.jsonl:17): raw, tokens, its losses; without ROW the worst rows of a run (RUN)
	$(python) scripts/why.py $(strip $(call common,$(base)) $(splits) $(call option,ROW,--row) $(call option,RUN,--run))

blocklist: $(core) ## add the rows that stand out in a run (RUN), or ROW, to those that `process` leaves out (OUT)
	$(python) scripts/why.py $(strip $(call common,$(base)) $(splits) --blocklist $(call option,ROW,--row) \
		$(call option,RUN,--run) $(call option,OUT,--out))

##@ Results
.PHONY: eval eval-val eval-test eval-quick eval-full infer infer-batch infer-interactive merge merge-bf16 merge-test

eval: eval-test ## the same as eval-test

eval-val: $(core) ## score base and tuned model on the validation split
	$(call evaluate,--split val $(call option,LIMIT,--limit))

eval-test: $(core) ## score base and tuned model on the test split
	$(call evaluate,--split test $(call option,LIMIT,--limit))

eval-quick: $(core) ## 200 rows of the validation split
	$(call evaluate,--split val --limit 200)

eval-full: $(core) ## every row of the validation and the test split
	$(call evaluate,--split val --set eval.limit=null)
	$(call evaluate,--split test --set eval.limit=null)

infer: $(core) ## answer PROMPT="..."; a chat when there is none
	$(call infer,$(call option,PROMPT,--prompt))

infer-batch: $(core) ## answer every question of INPUT=... into OUTPUT=...
	$(call infer,--mode batch $(call option,INPUT,--input_file) $(call option,OUTPUT,--output_file))

infer-interactive: $(core) ## chat with the tuned model
	$(call infer,--mode interactive)

merge: $(core) ## adapter + base -> one float16 model, measured against the adapter
	$(call merge,$(to_merge) $(merged) --dtype fp16)

merge-bf16: $(core) ## the same in bfloat16
	$(call merge,$(to_merge) $(merged) --dtype bf16)

merge-test: $(core) ## load the merged model with plain transformers and ask it a question
	$(call merge,$(call option,RUN,--run) $(merged) --test)

##@ Speed
.PHONY: profile bench bench-peers

profile: $(core) ## where a step's time goes, and how far it is from what its arithmetic takes (STEPS) -> outputs/profile
	$(python) scripts/profile_step.py $(strip $(call common,$(base)) $(splits) $(call setting,RUN,run_name) $(call option,STEPS,--steps))

bench: $(core) ## the same work as TRL, LLaMA-Factory, transformers do it, in turn: seconds, memory, loss (WORKLOAD, ROWS, ROUNDS)
	$(python) scripts/bench.py $(strip $(call common,$(base)) $(call option,WORKLOAD,--workload) $(call option,MODE,--mode) \
		$(call option,$(if $(value RAW),RAW,DATA),--raw_path) $(call option,ROWS,--rows) $(call option,ROUNDS,--rounds) $(if $(PEERS),--peers $(PEERS)) \
		$(foreach one,$(value PEER_VENVS),--environment $(call quote,$(one))))

# Unsloth takes gigabytes and runs nowhere but beside a GPU's driver (that of WSL is dxg).
here = $(filter-out $(if $(wildcard /dev/nvidia0 /dev/dxg),,unsloth),$(patsubst requirements-bench-%.txt,%,$(wildcard requirements-bench-*.txt)))

bench-peers: $(here:%=.venv-bench-%/.installed) ## make the environments of the peers; that of Unsloth where there is a GPU

.venv-bench-%/.installed: requirements-bench-%.txt
	@rm -f $@ && PYTHON=$(call quote,$(PYTHON)) INSTALLER=$(INSTALLER) scripts/make_environment.sh .venv-bench-$* $< && touch $@

##@ TensorBoard
.PHONY: tensorboard tb-stop tb-clean tb-open

tensorboard: $(core) ## start it in the background, for this machine only (TB_PORT)
	$(strip $(tensorboard) start --port $(TB_PORT) $(of_config))

tb-stop: $(core) ## stop the one that was started here
	$(strip $(tensorboard) stop $(of_config))

tb-open: $(core) ## show it in the browser
	$(strip $(tensorboard) open $(of_config))

tb-clean: $(core) ## stop it and delete outputs/tb, the curves of every run
	$(strip $(tensorboard) clean $(of_config))

##@ The project itself
.PHONY: clean lint test fuzz

clean: ## delete processed data and caches; never models, runs, adapters or raw data
	rm -rf data/processed data/processed_with_style data/rendered data/prepared outputs/.cache outputs/.rehearsal .pytest_cache .ruff_cache .hypothesis
	find scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

lint: $(dev) ## ruff, shellcheck, and the pages that are made from the code
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(VENV)/bin/shellcheck workflows/*.sh scripts/*.sh .ci/run
	$(python) scripts/config_doc.py --check

test: $(dev) ## every test, those on a real model included
	OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses=auto

fuzz: $(dev) ## 2,000 spoilt configs and 5,000 spoilt data files, and what each ended in (CASE=...)
	$(if $(value CASE),CASE=$(call quote,$(CASE)) )OMP_NUM_THREADS=1 $(python) -m pytest -q tests/fuzz

# -- The environment. A stamp says that an install ended well; a target that needs the environment depends on one ----

installing = @rm -f $@ && PYTHON=$(call quote,$(PYTHON)) INSTALLER=$(INSTALLER) scripts/make_environment.sh $(VENV) $< && touch $@

$(core): requirements.txt $(python)
	$(installing)

$(VENV)/.installed-%: requirements-%.txt $(core)
	$(installing)

# Made by the rule above. Where it is missing, or a link into nowhere since the system's Python was upgraded, that rule runs.
$(python): ;
