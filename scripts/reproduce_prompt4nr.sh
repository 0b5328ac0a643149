#!/usr/bin/env bash
# Prompt4NR's tables and figures by llm4rec reproduce, one after the other; finished runs are skipped. For one table:
# llm4rec list papers prompt4nr.
#   scripts/reproduce_prompt4nr.sh --small [argument …]             generated data
#   scripts/reproduce_prompt4nr.sh --cpu --raw FOLDER [argument …]  real data, packaged weights; FOLDER holds
#                                                              a folder for each dataset: mind-small-5k
#   scripts/reproduce_prompt4nr.sh --raw FOLDER [argument …]        the paper's data and weights; needs a GPU
#   scripts/reproduce_prompt4nr.sh --dry-run --raw FOLDER           what would be run, and what it costs
source "$(dirname "$0")/reproduce_common.sh"
tables prompt4nr "$@"
