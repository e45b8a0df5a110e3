"""Train a recipe, draw samples, measure them, and continue. About 20 seconds on one core.

python recipe.py
"""

import gancore

run = gancore.Run("digits", out="runs/recipe", steps=2000)
for record in run.train(progress=True):
    if record.metrics and record.step.step % 500 == 0:
        print(record.metrics["generator_loss"])

gancore.save_samples(run.load().sample(64, seed=0), "recipe.png")
print(run.evaluate("fd-random").numbers())

again = gancore.open("runs/recipe")
for _ in again.resume(steps=3000, progress=True):
    pass
print(again.evaluate("fd-random").numbers())
