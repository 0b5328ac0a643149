"""What can be asked on the command line: one file a command."""

HYDRA_COMMANDS = {
    "train": "train a model, evaluate it beside its floors, write and print the metrics",
    "eval": "ask a trained model a question: another task, split or protocol",
    "prepare": "read raw files into a dataset, print its statistics beside the paper's",
    "enrich": "have a chat model write tokens for each item, for dataset.text=enriched and model.tokens=true",
    "recommend": "top items for a user of the data, or for titles that you name",
}
PLAIN_COMMANDS = {
    "report": "finished runs: mean ± sd over seeds, the papers beside, claims; as a table, LaTeX or one HTML page",
    "compare": "runs on the same examples: paired differences, their intervals, permutation tests, equivalence",
    "ensemble": "several finished runs' scores of the same impressions, combined and evaluated",
    "score": "somebody else's scores or ranked lists, through our evaluator",
    "human": "people judge what runs wrote: blind sheets, and what filled ones say",
    "list": "what there is: models, datasets, tasks, experiments, runs",
    "prune": "delete runs and cached data that are no longer wanted",
    "validate": "compose every config there is, and tell all errors at once",
    "doctor": "what this machine has, and what is wrong with it",
    "completion": "the script that makes bash or zsh complete commands and overrides",
}
