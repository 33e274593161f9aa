"""Options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[
    Path, typer.Option("--project", "-p", help="Project file, or the folder that holds it.")
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Where artifacts live; default: store/ beside it.")
]
VariantOption = Annotated[
    str | None, typer.Option("--variant", "-v", help="One variant only; default: all of them.")
]
LastVariantOption = Annotated[
    str | None, typer.Option("--variant", "-v", help="Which variant; default: the last one.")
]
HERE = Path("project.yaml")
