"""From a training run to a repository for the Hub: weights, code, measured results and a card made of them."""
