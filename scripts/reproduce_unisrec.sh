#!/usr/bin/env bash
# UniSRec's tables and figures by llm4rec reproduce, one after the other; finished runs are skipped. For one table:
# llm4rec list papers unisrec.
#   scripts/reproduce_unisrec.sh --small [argument …]             generated data
#   scripts/reproduce_unisrec.sh --cpu --raw FOLDER [argument …]  real data, packaged weights; FOLDER holds
#                                                            a folder for each dataset: amazon2018-scientific, amazon2014-beauty
#   scripts/reproduce_unisrec.sh --raw FOLDER [argument …]        the paper's data and weights; needs a GPU
#   scripts/reproduce_unisrec.sh --dry-run --raw FOLDER           what would be run, and what it costs
source "$(dirname "$0")/reproduce_common.sh"
tables unisrec "$@"
