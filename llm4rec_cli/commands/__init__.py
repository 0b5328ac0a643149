"""The commands, one file each, and their one-line descriptions."""

HYDRA_COMMANDS = {
    "train": "train a model, evaluate it and its floors (simple baselines), print the metrics table",
    "eval": "evaluate a trained model on another task, split or protocol",
    "tune": "search a model's settings on validation, within a budget of trials and minutes",
    "prepare": "build a dataset from raw files and compare its statistics with the paper's",
    "enrich": "generate item tokens with a chat model, for dataset.text=enriched and model.tokens=true",
    "recommend": "print the top items for a user or for titles, or predict a rating or text",
}
PLAIN_COMMANDS = {
    "report": "summarise finished runs over seeds, with published values and claims, as a table, LaTeX or HTML",
    "protocols": "evaluate models under leave-one-out, shuffled ties and a split in time, and compare their order",
    "reproduce": "make a table of a paper: run what is missing, and show the paper's numbers next to ours",
    "compare": "compare runs on the same examples: paired differences, confidence intervals, tests",
    "ensemble": "combine stored scores of finished runs on the same examples and evaluate the result",
    "score": "evaluate scores or ranked lists from another system with our evaluator",
    "import-weights": "make a run of weights that a method's published code wrote, for eval and init_from",
    "inspect": "say what a dataset rewards besides taste, and what a result's gain consists of",
    "human": "evaluate generated texts with human judges: export blind sheets, score the filled ones",
    "list": "list models, datasets, tasks, experiments or runs",
    "prune": "delete runs and cached data that are no longer needed",
    "validate": "compose every config and report all errors at once",
    "doctor": "check this machine: installation, devices, disk space",
    "completion": "print the script for bash or zsh completion of commands and overrides",
}
