"""`python -m llm4rec_cli …` is `llm4rec …`."""

from llm4rec_cli.cli import main

raise SystemExit(main())
