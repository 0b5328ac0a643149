#!/usr/bin/env bash
# ChatGPTRec's tables and figures by llm4rec reproduce, one after the other; finished runs are skipped. For one table:
# llm4rec list papers chatgptrec.
#   scripts/reproduce_chatgptrec.sh --small [argument …]             generated data
#   scripts/reproduce_chatgptrec.sh --cpu --raw FOLDER [argument …]  real data, packaged weights; FOLDER holds
#                                                               a folder for each dataset: ml-100k, xrec-amazon, amazon2014-musical-instruments
#   scripts/reproduce_chatgptrec.sh --raw FOLDER --rows "ChatGPT*" llm.model=FOLDER llm.context=8192
#                                                               the paper's data, a model of 7 or 8 billion weights on a
#                                                               GPU (16 GB for them); model.controls=0 leaves out up to
#                                                               350 answers a row that measure what it depends on
#   scripts/reproduce_chatgptrec.sh --raw FOLDER --rows "ChatGPT*" llm=openai llm.base_url=URL llm.model=NAME
#                                                               the same through an endpoint
#   scripts/reproduce_chatgptrec.sh --raw FOLDER [argument …]        with P5-B and the baselines, which needs a GPU; the
#                                                               packaged chat model unless llm= or llm.model= is typed
#   scripts/reproduce_chatgptrec.sh --dry-run --raw FOLDER           what would be run, and what it costs
source "$(dirname "$0")/reproduce_common.sh"
tables chatgptrec "$@"
