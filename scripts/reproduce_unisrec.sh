#!/usr/bin/env bash
# UniSRec's table on Scientific, and SASRec's on Beauty: three seeds each, with floors and controls, then the report.
#   scripts/reproduce_unisrec.sh FOLDER_OF_SCIENTIFIC [FOLDER_OF_BEAUTY]
# About three hours on two CPU cores; run it again and finished runs are skipped.
set -euo pipefail
scientific=$(realpath "${1:?usage: scripts/reproduce_unisrec.sh FOLDER_OF_SCIENTIFIC [FOLDER_OF_BEAUTY]}")
beauty=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
for experiment in scientific scientific_ids scientific_sasrec scientific_linear; do
  llm4rec train -m +experiment=unisrec/$experiment dataset.raw_dir="$scientific" seed=0,1,2
done
llm4rec train -m +experiment=unisrec/scientific dataset.raw_dir="$scientific" dataset.control=shuffle_text seed=0,1,2
llm4rec train -m model=bpr_mf dataset=amazon2018-scientific dataset.raw_dir="$scientific" seed=0,1,2
if [ -n "$beauty" ]; then
  llm4rec train -m +experiment=unisrec/beauty_sasrec dataset.raw_dir="$beauty" seed=0,1,2
  llm4rec train -m +experiment=unisrec/beauty_unisrec dataset.raw_dir="$beauty" seed=0,1,2
fi
llm4rec report --metrics recall@10,ndcg@10,recall@50,ndcg@50
