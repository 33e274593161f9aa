"""Floor 5: the only home of torch. In order: catalog, render, pack, train, sft, evaluate."""
