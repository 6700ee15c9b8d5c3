"""The engine in one process with one tile that holds the whole image: what a run must equal."""

from pathlib import Path

from _peer import main
from _tilewright import recipe

from pipeline.admission import admit
from pipeline.engine import Engine
from pipeline.ledger import MemoryLedger
from pipeline.plan import Machine, plan_image
from pipeline.recipe import load_recipe
from pipeline.run_folder import RunFolder
from pipeline.sources import discover
from pipeline.steps import perform_here


def run(args):
    scratch = Path(args.scratch)
    chosen = load_recipe(str(recipe(args.job, scratch)))
    (image,) = admit(discover(Path(args.image).parent))
    whole = max(image.info.shape)
    plan = plan_image(image, chosen, RunFolder(Path(args.out)), Machine(1, 1 << 40), whole)
    published = Engine(plan.job, plan.output, perform_here, MemoryLedger()).run()
    return {
        "labels": f"{plan.output.root}/labels/{args.job.lower()}/0",
        "work_s": sum(s for stage, s in published.seconds.items() if stage != "table"),
        "package": "tilewright",
    }


if __name__ == "__main__":
    main(run)
