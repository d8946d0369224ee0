"""Where config, data and models meet: what `train`, `evaluate`, `predict` and `profile` do for the scripts.

`setup`, `recipe` and `source` make objects of a config for all of them; their own parts lie in `training`,
`evaluation` and `prediction`.
"""
